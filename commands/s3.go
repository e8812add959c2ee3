package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/s3"
)

// openS3 opens a bucket in an object store, as the settings of the remote say.
func openS3(r *repo.Repo, m remoteStore) (*s3.Bucket, error) {
	config, err := tlsOf(r, m)
	if err != nil {
		return nil, err
	}
	patience, tries := m.patience(r)
	styles := map[string]s3.Style{"true": s3.PathStyle, "false": s3.VirtualStyle}
	return s3.Open(m.url, s3.Options{
		Endpoint: m.setting(r, "endpoint"), Region: m.setting(r, "region"), Profile: m.setting(r, "profile"),
		PathStyle: styles[m.setting(r, "pathStyle")], Unencrypted: m.isInsecure(r), TLS: config, Patience: patience, Tries: tries,
	})
}

// checkS3URL refuses what is no URL of a bucket.
func checkS3URL(u *url.URL) error {
	switch {
	case u.Hostname() == "":
		return &usageError{"s3://: no bucket in the URL", []string{"s3://BUCKET/PATH is a place in a bucket; where the store is says --endpoint"}}
	case u.User != nil:
		return &usageError{"s3://…: a key in the URL, and URLs are stored and printed", []string{"keys come from $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, or from ~/.aws/credentials"}}
	case u.Port() != "":
		return &usageError{fmt.Sprintf("s3://%s: a port: the URL begins with the name of a bucket", shown(u.Host)), []string{"where the store is says --endpoint, or the setting remote.NAME.endpoint"}}
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return usagef("s3://%s: the URL of a store has no ? and no #", shown(u.Host))
	}
	return nil
}

// s3Settings are the settings that flags of remote stand for.
func s3Settings(verb string, args []string, endpoint, region string) (map[string]string, error) {
	given := map[string]string{}
	if endpoint != "" {
		given["endpoint"] = endpoint
	}
	if region != "" {
		given["region"] = region
	}
	if len(given) == 0 {
		return nil, nil
	}
	if verb != "add" && verb != "set-url" {
		return nil, usagef("--endpoint and --region go with remote add and remote set-url")
	}
	if u, err := url.Parse(args[1]); err != nil || u.Scheme != "s3" {
		return nil, usagef("--endpoint and --region go with a URL s3://BUCKET/PATH")
	}
	return given, nil
}

// probe finds out, before a remote is written down, whether an object store can do what
// a bucket needs. One that does not answer now is asked again by the first push to it,
// and so is one for which no key is known here.
func (s *session) probe(ctx context.Context, r *repo.Repo, m remoteStore) error {
	if u, err := url.Parse(m.url); err != nil || u.Scheme != "s3" {
		return nil
	}
	m.hasty = true
	b, err := openS3(r, m)
	if err != nil {
		return err
	}
	err = b.Probe(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, remote.ErrDenied) && !errors.Is(err, s3.ErrKey) && !errors.Is(err, s3.ErrClock):
		if _, reading := b.Root(ctx); reading == nil {
			s.warn("%s can be read, but not written to, with the key that is known here", shown(m.name))
			return nil
		}
	case errors.Is(err, remote.ErrUnreachable), errors.Is(err, s3.ErrNoCredentials):
		s.warn("%s could not be asked whether it keeps to conditions; the first push does so: %v", shown(m.name), err)
		return nil
	}
	return remoteError(m, err)
}

// s3Hints are the ways out of errors that only object stores have; nil for others.
func s3Hints(m remoteStore, err error) []string {
	name := cmp.Or(m.name, "NAME")
	set := func(key, value string) string {
		return fmt.Sprintf(`"cache-tool config set remote.%s.%s %s"`, name, key, value)
	}
	var said *s3.StatusError
	switch {
	case errors.Is(err, s3.ErrNoConditions):
		return []string{
			"without them two who push at the same time both win, and what one of them pushed is lost. Stores that keep to them are Amazon S3, MinIO, Ceph, Cloudflare R2, versitygw",
			`on another one let one machine write for all: "cache-tool serve" there, and https:// as the remote`,
		}
	case errors.Is(err, s3.ErrNoCredentials):
		return []string{"keys come from $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, from ~/.aws (" + set("profile", "NAME") + " chooses a profile), or from the role of the container or machine"}
	case errors.Is(err, s3.ErrNoBucket):
		return []string{"nothing here is lost. A bucket is made with the tools of the store; is the endpoint right? " + set("endpoint", "URL") + " says where the store is"}
	case errors.Is(err, s3.ErrRegion) && errors.As(err, &said) && said.Region != "":
		return []string{set("region", said.Region)}
	case errors.Is(err, s3.ErrRegion):
		return []string{set("region", "NAME") + " says where the bucket is, as do $AWS_REGION and ~/.aws/config"}
	case errors.Is(err, s3.ErrClock):
		return []string{"set the clock of this machine, such as by NTP, then run the command again: nothing is lost"}
	case errors.Is(err, s3.ErrKey):
		return []string{"$AWS_ACCESS_KEY_ID, $AWS_SECRET_ACCESS_KEY and $AWS_SESSION_TOKEN come first, then ~/.aws: are they those of this store, and still good?"}
	case errors.Is(err, s3.ErrThrottled):
		return []string{"run the command again later: it goes on where it stopped"}
	case errors.Is(err, s3.ErrNoStore):
		return []string{"is the endpoint right? " + set("endpoint", "URL") + " says where the store is"}
	case errors.As(err, &said) && errors.Is(err, remote.ErrDenied):
		return []string{"the key is known, but may not do that: docs/operations.md has the policy that is needed"}
	}
	return nil
}
