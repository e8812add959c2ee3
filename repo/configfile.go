package repo

import (
	"errors"
	"fmt"
	"strings"
)

// A configFile is a text in the syntax of git-config(1):
//
//	[section]
//		key = value    # comment
//	[section "Subsection"]
//		key = "quoted \"value\""
//		key            ; the same as "key = true"
//
// Sections and keys are letters, digits, '-' and '.' in any case; a value goes on
// in the next line behind a backslash. Whoever writes a setting leaves the lines
// of all others as they are.
//
// It is a parser of our own because the one in go-git adds a fifth to the time in
// which the command starts.
type configFile []configLine

// A configLine is a line, or several if a value goes on, as it stands in the file.
type configLine struct {
	text                string
	section, subsection string // that it belongs to, or opens; section in lower case
	key                 string // in lower case; empty if the line sets nothing
	value               string
}

var errConfigLine = errors.New("neither a section, a setting nor a comment")

func parseConfigFile(text string) (configFile, error) {
	text = strings.TrimPrefix(text, "\ufeff")
	var f configFile
	var section, subsection string
	for number := 1; text != ""; {
		n := configLineEnd(text)
		l := configLine{text: text[:n], section: section, subsection: subsection}
		if err := l.parse(); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		number += strings.Count(l.text, "\n")
		section, subsection, text = l.section, l.subsection, text[n:]
		f = append(f, l)
	}
	return f, nil
}

// configLineEnd returns how long the first line of text is, those that it goes
// on in included.
func configLineEnd(text string) int {
	comment, quoted := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			return i + 1
		case comment:
		case c == '\\':
			i++ // whatever follows, a line break too
			if strings.HasPrefix(text[min(i, len(text)):], "\r\n") {
				i++
			}
		case c == '"':
			quoted = !quoted
		case (c == '#' || c == ';') && !quoted:
			comment = true
		}
	}
	return len(text)
}

func (l *configLine) parse() error {
	rest := strings.TrimLeft(l.text, " \t\r\n")
	switch {
	case rest == "" || rest[0] == '#' || rest[0] == ';':
		return nil
	case rest[0] == '[':
		return l.parseSection(rest[1:])
	}
	n := strings.IndexFunc(rest, func(r rune) bool { return !isConfigName(r) })
	if n < 0 {
		n = len(rest)
	}
	if n == 0 || l.section == "" {
		return errConfigLine
	}
	l.key = strings.ToLower(rest[:n])
	rest = strings.TrimLeft(rest[n:], " \t")
	if rest == "" || strings.ContainsRune("\r\n#;", rune(rest[0])) {
		l.value = "true"
		return nil
	}
	if rest[0] != '=' {
		return errConfigLine
	}
	var err error
	l.value, err = parseConfigValue(rest[1:])
	return err
}

func isConfigName(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-'
}

// parseSection reads what follows the '[' of a section.
func (l *configLine) parseSection(rest string) error {
	n := strings.IndexFunc(rest, func(r rune) bool { return !isConfigName(r) && r != '.' })
	if n < 1 {
		return errConfigLine
	}
	l.section, l.subsection = strings.ToLower(rest[:n]), ""
	rest = strings.TrimLeft(rest[n:], " \t")
	if name, ok := strings.CutPrefix(rest, `"`); ok {
		var err error
		if l.subsection, rest, err = cutSubsection(name); err != nil {
			return err
		}
	} else if section, sub, ok := strings.Cut(l.section, "."); ok { // the old way
		l.section, l.subsection = section, sub
	}
	rest, ok := strings.CutPrefix(rest, "]")
	if rest = strings.TrimLeft(rest, " \t\r\n"); !ok || rest != "" && rest[0] != '#' && rest[0] != ';' {
		return errConfigLine
	}
	return nil
}

func cutSubsection(s string) (name, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\n':
			return "", "", errConfigLine
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errConfigLine
}

func parseConfigValue(s string) (string, error) {
	s = strings.TrimLeft(s, " \t")
	var b strings.Builder
	quoted, end := false, 0 // end: of the value, without the spaces behind it
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
			end = b.Len()
		case c == '\\':
			if i++; i == len(s) {
				return "", errors.New("the value ends in a backslash")
			}
			switch n := strings.IndexByte("nbt\"\\", s[i]); {
			case n >= 0:
				b.WriteByte("\n\b\t\"\\"[n])
				end = b.Len()
			case s[i] == '\r' && strings.HasPrefix(s[i:], "\r\n"):
				i++
			case s[i] != '\n':
				return "", fmt.Errorf(`the value holds "\%c"`, s[i])
			}
		case c == '\n' && quoted:
			return "", errors.New("a quote is not closed")
		case !quoted && (c == '\n' || c == '#' || c == ';'):
			return b.String()[:end], nil
		default:
			b.WriteByte(c)
			if quoted || c != ' ' && c != '\t' && c != '\r' {
				end = b.Len()
			}
		}
	}
	if quoted {
		return "", errors.New("a quote is not closed")
	}
	return b.String()[:end], nil
}

// String returns the text of the file.
func (f configFile) String() string {
	var b strings.Builder
	for _, l := range f {
		b.WriteString(l.text)
	}
	return b.String()
}

// get returns the value of a setting: the last one that the file has for it.
func (f configFile) get(section, subsection, key string) (value string, ok bool) {
	for _, l := range f {
		if l.key == key && l.section == section && l.subsection == subsection {
			value, ok = l.value, true
		}
	}
	return value, ok
}

// set returns the file with a setting in it.
func (f configFile) set(section, subsection, key, value string) configFile {
	l := configLine{"\t" + key + " = " + quoteConfig(value) + "\n", section, subsection, key, value}
	f = f.remove(section, subsection, key)
	for i := len(f) - 1; i >= 0; i-- {
		if f[i].section != section || f[i].subsection != subsection {
			continue
		}
		f[i].endLine()
		return append(append(f[:i+1:i+1], l), f[i+1:]...)
	}
	head := configLine{text: "[" + section + "]\n", section: section, subsection: subsection}
	if subsection != "" {
		head.text = "[" + section + ` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(subsection) + "\"]\n"
	}
	if len(f) > 0 {
		f[len(f)-1].endLine()
	}
	return append(f, head, l)
}

// endLine adds the line break that the last line of a file may lack, or one that
// ends a value which would go on.
func (l *configLine) endLine() {
	line, ok := strings.CutSuffix(l.text, "\n")
	if !ok || strings.HasSuffix(strings.TrimSuffix(line, "\r"), `\`) {
		l.text += "\n"
	}
}

// remove returns the file without a setting.
func (f configFile) remove(section, subsection, key string) configFile {
	kept := make(configFile, 0, len(f))
	for _, l := range f {
		if l.key != key || l.section != section || l.subsection != subsection {
			kept = append(kept, l)
		}
	}
	return kept
}

func quoteConfig(value string) string {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\b", `\b`).Replace(value)
	if quoted != value || strings.ContainsAny(value, "#;\r") || strings.TrimSpace(value) != value {
		return `"` + quoted + `"`
	}
	return value
}
