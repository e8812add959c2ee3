package repo

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/refs"
)

// Beside config, which people edit, stands config.sum, which says what the file was
// when we wrote it:
//
//	size SP time of its last change, in nanoseconds since 1970 SP CRC-32C SP CRC-32C of the text before, LF
//
// If the time is the same and the bytes are not, nobody wrote them: the disk did.
// Otherwise it says nothing, and neither does one that is damaged itself.
const configSumName = "config.sum"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// noteConfig writes the sum of the config at path. Without it only damage to config
// goes unseen.
func noteConfig(path string, text []byte) {
	fi, err := os.Stat(path)
	if err != nil || fi.Size() != int64(len(text)) {
		return
	}
	line := fmt.Sprintf("%d %d %08x ", fi.Size(), fi.ModTime().UnixNano(), crc32.Checksum(text, castagnoli))
	line = fmt.Sprintf("%s%08x\n", line, crc32.Checksum([]byte(line), castagnoli))
	_ = durable.WriteFile(filepath.Join(filepath.Dir(path), configSumName), []byte(line), durable.NoSync)
}

// configSum returns the checksum that config had when it was written, if nobody has
// written it since.
func configSum(dir string) (sum uint32, ok bool) {
	line, err := os.ReadFile(filepath.Join(dir, configSumName))
	if err != nil {
		return 0, false
	}
	fi, err := os.Stat(filepath.Join(dir, "config"))
	f := strings.Fields(string(line))
	if err != nil || len(f) != 4 {
		return 0, false
	}
	front := line[:strings.LastIndexByte(string(line), ' ')+1]
	if string(line) != fmt.Sprintf("%s%08x\n", front, crc32.Checksum(front, castagnoli)) ||
		f[0] != strconv.FormatInt(fi.Size(), 10) || f[1] != strconv.FormatInt(fi.ModTime().UnixNano(), 10) {
		return 0, false
	}
	n, err := strconv.ParseUint(f[2], 16, 32)
	return uint32(n), err == nil
}

// checkConfig returns what is wrong with the settings.
func checkConfig(dir string) []error {
	text, err := os.ReadFile(filepath.Join(dir, "config"))
	if err != nil {
		return []error{err}
	}
	if sum, ok := configSum(dir); ok && sum != crc32.Checksum(text, castagnoli) {
		return []error{errors.New("it is not what was written, though nobody has changed it since")}
	}
	f, err := parseConfigFile(string(text))
	if err != nil {
		return []error{err}
	}
	var found []error
	for _, pair := range (&Config{file: f}).List() {
		if s, err := findSetting(pair[0]); err == nil {
			if err := s.check(pair[1]); err != nil {
				found = append(found, fmt.Errorf("%s: value %q: %w", pair[0], pair[1], err))
			}
		}
	}
	return found
}

// MendConfig mends the settings of the repository at dir, which need not open. A bit
// that is damaged is put back, if there was but one; else lines that make no sense
// are taken out, and what every repository has is added. It returns what it did.
func MendConfig(ctx context.Context, dir string) ([]Repaired, error) {
	path := filepath.Join(dir, "config")
	if _, err := os.Stat(path); err != nil {
		return nil, nil // no repository, which Open says
	}
	if len(checkConfig(dir)) == 0 {
		if _, err := openConfig(dir); err == nil || !errors.Is(err, ErrNotRepository) {
			return nil, nil
		}
	}
	if _, err := refs.Open(dir, refs.Options{}).Head(ctx); err != nil {
		if fi, err := os.Stat(filepath.Join(dir, "packs")); err != nil || !fi.IsDir() {
			return nil, nil // somebody else's file
		}
	}
	lock, err := durable.LockExclusive(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var did []Repaired
	if sum, ok := configSum(dir); ok && unflip(text, sum) {
		did = append(did, Repaired{"config", "a bit was damaged, and is put back"})
	} else {
		text, did = sensibleConfig(string(text))
	}
	if err := durable.WriteFile(path, text, durable.Synced); err != nil {
		return nil, err
	}
	noteConfig(path, text)
	return did, nil
}

// unflip puts back the one bit that keeps text from having this checksum, if it is
// one.
func unflip(text []byte, sum uint32) bool {
	const most = 1 << 20
	if len(text) > most>>6 {
		return false // it takes the square of its length
	}
	for i := range 8 * len(text) {
		text[i/8] ^= 1 << (i % 8)
		if crc32.Checksum(text, castagnoli) == sum {
			return true
		}
		text[i/8] ^= 1 << (i % 8)
	}
	return false
}

// sensibleConfig returns what can be read of a config, with what it must have.
func sensibleConfig(text string) ([]byte, []Repaired) {
	var did []Repaired
	var f configFile
	for line := range strings.Lines(text) {
		next := append(f, configLine{text: line})
		if whole, err := parseConfigFile(next.String()); err == nil {
			f = whole
			continue
		}
		did = append(did, Repaired{"config", fmt.Sprintf("a damaged line is taken out: %q", strings.TrimRight(line, "\n"))})
	}
	c := &Config{file: f}
	for _, pair := range c.List() {
		if s, err := findSetting(pair[0]); err == nil && s.check(pair[1]) != nil {
			section, subsection, key, _ := splitName(pair[0])
			c.file = c.file.remove(section, subsection, key)
			did = append(did, Repaired{"config", fmt.Sprintf("%s is taken out: its value was %q", pair[0], pair[1])})
		}
	}
	version, _ := c.raw("core", "", "repositoryversion")
	if n, err := strconv.Atoi(version); err != nil || n < 1 {
		c.file = c.file.set("core", "", "repositoryversion", strconv.Itoa(formatVersion))
		did = append(did, Repaired{"config", "core.repositoryVersion is set again"})
	}
	if id, _ := c.raw("core", "", "id"); id == "" {
		c.file = c.file.set("core", "", "id", newID())
		did = append(did, Repaired{"config", "the repository has a new id"})
	}
	if len(did) == 0 {
		did = append(did, Repaired{"config", "its bytes have changed; what they say now counts"})
	}
	return []byte(c.file.String()), did
}
