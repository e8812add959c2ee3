package commands

import "context"

func (s *session) branchWords(ctx context.Context) []string { return nil }
