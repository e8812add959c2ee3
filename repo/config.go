package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/gc"
)

// Config is a repository's settings, kept in its file config in the syntax of
// git-config(1). Whoever writes a setting leaves all other lines as they are.
//
// A Config is read once, by Open. It is not safe for concurrent writes.
type Config struct {
	path string
	file configFile
}

// A Setting is one setting that exists.
type Setting struct {
	Name    string // "section.key"; "*" stands for any subsection
	Default string // what holds where it is not set
	Help    string
	check   func(value string) error
}

// Settings returns every setting there is, by name.
func Settings() []Setting {
	return []Setting{
		{"branch.*.base", "", "the branch that lookups try after this one, before the default branch", checkBranch},
		{"branch.*.merge", "", "the branch of the remote that this one is pushed to and pulled from; its own name if not set", checkBranch},
		{"branch.*.remote", "", "the remote that the branch is pushed to and pulled from", checkRemote},
		{"files.maxSize", "10GB", "how many bytes of outputs lie there as plain files, as the go command wants them", checkSize},
		{"gc.auto", "true", "whether small packs are merged in passing, and what killed commands left is removed", checkBool},
		{"gc.branchTTL", "never", "how long a branch stays that nobody moves, such as 14d", checkAge},
		{"gc.grace", "1h", "how long what nobody needs stays: a push may be about to name it", checkAge},
		{"gc.keepHistory", "90d", "how long versions stay that were replaced or removed, such as 7d", checkAge},
		{"gc.maxAge", "never", "how long an entry stays that nobody uses, such as 30d", checkAge},
		{"gc.maxSize", "never", "how much may be stored, such as 10GB: what was not used for longest goes", checkSize},
		{"gc.protected", "", "patterns of branches of which nothing goes, such as 'release/*', parted by commas", checkPatterns},
		{"gc.rewrite", "10", "from which percentage of waste on a pack is written anew", checkPercent},
		{"remote.*.caFile", "", "a file of certificates (PEM) that may vouch for the server", checkLine},
		{"remote.*.certFile", "", "a file with our certificate (PEM), for servers that want one", checkLine},
		{"remote.*.endpoint", "", "the URL of the object store of a remote s3://BUCKET; Amazon's if nothing says another", checkLine},
		{"remote.*.fetch", "", "what to fetch; +refs/heads/*:refs/remotes/NAME/* if not set", checkLine},
		{"remote.*.insecure", "false", "whether passwords and tokens may go to the server unencrypted", checkBool},
		{"remote.*.keyFile", "", "a file with the key of our certificate (PEM)", checkLine},
		{"remote.*.lazy", "false", "whether what is not here is fetched from the remote when it is needed", checkBool},
		{"remote.*.maxBlob", "95MiB", "how big a blob may be on a Git server: what is bigger is kept there in pieces", checkBlobSize},
		{"remote.*.pathStyle", "auto", "whether the bucket is in the path of an object store's URLs, and not in their host: true, false or auto", checkStyle},
		{"remote.*.profile", "", "which profile of ~/.aws holds for an object store", checkLine},
		{"remote.*.region", "", "the region of the bucket of an object store, if it is not the usual one", checkLine},
		{"remote.*.timeout", "60", "how many seconds a server may be silent", checkSeconds},
		{"remote.*.url", "", "where the remote is", checkLine},
		{"stage.limit", "4096", "how many staged entries `run` lets gather before it commits them", checkCount},
		{"user.email", "", "the address that commits carry; without it USER@HOST", checkLine},
		{"user.name", "", "the name that commits carry; without it that of the account", checkLine},
		{"wrap.push", "ci", "whether `wrap` pushes what a build made: true, false, or ci for what a CI service runs", checkPush},
		{"wrap.timeout", "300", "how many seconds `wrap` gives a pull before the build, and a push after it", checkSeconds},
	}
}

func checkLine(value string) error {
	if strings.ContainsAny(value, "\n<>\x00") {
		return errors.New("holds a line break, '<' or '>'")
	}
	return nil
}

func checkBool(value string) error {
	if value != "true" && value != "false" {
		return errors.New("want true or false")
	}
	return nil
}

func checkStyle(value string) error {
	if value != "true" && value != "false" && value != "auto" {
		return errors.New("want true, false or auto")
	}
	return nil
}

func checkPush(value string) error {
	if value != "true" && value != "false" && value != "ci" {
		return errors.New("want true, false or ci")
	}
	return nil
}

func checkAge(value string) error {
	_, err := gc.ParseAge(value)
	return err
}

func checkSize(value string) error {
	_, err := gc.ParseSize(value)
	return err
}

func checkBlobSize(value string) error {
	if n, err := gc.ParseSize(value); err != nil || n < 1<<10 {
		return errors.New("not a size of 1 KiB or more, such as 50MB")
	}
	return nil
}

func checkPatterns(value string) error {
	_, err := gc.ParsePatterns(value)
	return err
}

func checkPercent(value string) error {
	if n, err := strconv.Atoi(value); err != nil || n < 0 || n > 100 {
		return errors.New("want a whole number from 0 to 100")
	}
	return nil
}

func checkRemote(name string) error {
	return refs.Remote(name, "main").Check()
}

func checkCount(value string) error {
	if n, err := strconv.Atoi(value); err != nil || n < 1 {
		return errors.New("want a whole number, at least 1")
	}
	return nil
}

func checkSeconds(value string) error {
	const day = 24 * 60 * 60
	if n, err := strconv.Atoi(value); err != nil || n < 1 || n > day {
		return fmt.Errorf("want a whole number from 1 to %d", day)
	}
	return nil
}

func checkBranch(value string) error {
	return refs.Branch(value).Check()
}

// splitName cuts "section.sub.section.key" at its first and last dot.
func splitName(name string) (section, subsection, key string, ok bool) {
	first, last := strings.IndexByte(name, '.'), strings.LastIndexByte(name, '.')
	if first < 1 || last == len(name)-1 {
		return "", "", "", false
	}
	if first < last {
		subsection = name[first+1 : last]
	}
	return strings.ToLower(name[:first]), subsection, strings.ToLower(name[last+1:]), true
}

// ErrUnknownSetting is what the errors about a name that is no setting are.
var ErrUnknownSetting = errors.New("no such setting")

func findSetting(name string) (Setting, error) {
	section, subsection, key, ok := splitName(name)
	pattern := section + "." + key
	if subsection != "" {
		pattern = section + ".*." + key
	}
	for _, s := range Settings() {
		if ok && strings.EqualFold(s.Name, pattern) {
			return s, nil
		}
	}
	return Setting{}, fmt.Errorf("%s: %w", name, ErrUnknownSetting)
}

// readConfig reads the settings at path; an absent file is an error.
func readConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := parseConfigFile(string(data))
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", path, err)
	}
	return &Config{path: path, file: file}, nil
}

func (c *Config) raw(section, subsection, key string) (string, bool) {
	return c.file.get(section, subsection, key)
}

// Get returns the value of a setting, its default where it is not set or where
// the file holds a value that the setting does not take.
func (c *Config) Get(name string) (string, error) {
	s, err := findSetting(name)
	if err != nil {
		return "", err
	}
	section, subsection, key, _ := splitName(name)
	if value, ok := c.raw(section, subsection, key); ok && s.check(value) == nil {
		return value, nil
	}
	return s.Default, nil
}

// get is Get for a name that is known to exist.
func (c *Config) get(name string) string {
	value, err := c.Get(name)
	if err != nil {
		panic(err) // a spelling mistake in this program
	}
	return value
}

// Set changes a setting; an empty value takes it out. It is durable on return,
// and what other processes set meanwhile is kept.
func (c *Config) Set(ctx context.Context, name, value string) error {
	s, err := findSetting(name)
	if err != nil {
		return err
	}
	lock, err := durable.LockExclusive(ctx, filepath.Join(filepath.Dir(c.path), "lock"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	fresh, err := readConfig(c.path)
	if err != nil {
		return err
	}
	c.file = fresh.file
	section, subsection, key, _ := splitName(name)
	if value == "" {
		c.file = c.file.remove(section, subsection, key)
		return c.write()
	}
	if err := s.check(value); err != nil {
		return fmt.Errorf("%s: value %q: %w", name, value, err)
	}
	c.file = c.file.set(section, subsection, key, value)
	return c.write()
}

// Override makes a setting hold for this process, and changes no file.
func (c *Config) Override(name, value string) error {
	s, err := findSetting(name)
	if err != nil {
		return err
	}
	if err := s.check(value); err != nil {
		return fmt.Errorf("%s: value %q: %w", name, value, err)
	}
	section, subsection, key, _ := splitName(name)
	c.file = c.file.set(section, subsection, key, value)
	return nil
}

// List returns what the file sets, as "name", value pairs sorted by name.
func (c *Config) List() [][2]string {
	var list [][2]string
	for _, l := range c.file {
		if l.key == "" {
			continue
		}
		name := l.section + "." + l.key
		if l.subsection != "" {
			name = l.section + "." + l.subsection + "." + l.key
		}
		list = append(list, [2]string{name, l.value})
	}
	slices.SortStableFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return list
}

func (c *Config) write() error {
	text := []byte(c.file.String())
	if err := durable.WriteFile(c.path, text, durable.Synced); err != nil {
		return err
	}
	noteConfig(c.path, text)
	return nil
}

// formatVersion is the version of the repository's layout that this program
// reads and writes.
const formatVersion = 1

// ErrNotRepository says that a directory holds no repository.
var ErrNotRepository = errors.New("not a cache-tool repository")

// openConfig reads the config of the repository at dir and checks that this
// program knows its format.
func openConfig(dir string) (*Config, error) {
	c, err := readConfig(filepath.Join(dir, "config"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNotRepository)
	} else if err != nil {
		return nil, err
	}
	text, _ := c.raw("core", "", "repositoryversion")
	version, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w: config names no core.repositoryVersion", dir, ErrNotRepository)
	case version > formatVersion:
		return nil, fmt.Errorf("%s: repository version %d is newer than this program's %d: use a newer cache-tool", dir, version, formatVersion)
	}
	return c, nil
}
