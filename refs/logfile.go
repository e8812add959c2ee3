package refs

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// log adds a move to its reflog, durably, unless it is there already.
func (f *Files) log(m move, dirs dirSet) error {
	file, err := f.openLog(m)
	if err != nil {
		return err
	}
	defer file.Close()
	size, end, last, err := lastLine(file)
	if err != nil {
		return err
	}
	line := m.encode()
	if bytes.Equal(last, line) {
		return durable.SyncFile(file)
	}
	if size == 0 {
		dirs[filepath.Dir(file.Name())] = true
	}
	if e, err := parseLogLine(strings.TrimSuffix(string(last), "\n")); err == nil && e.announced(m.Old) {
		end -= int64(len(last))
	}
	if end < size {
		if err := durable.Truncate(file, end); err != nil {
			return err
		}
	}
	if err := durable.Append(file, line); err != nil {
		_ = durable.Truncate(file, end)
		return err
	}
	return durable.SyncFile(file)
}

// openLog opens a reflog for appending. Logs of refs that were deleted while
// the process died go out of the way.
func (f *Files) openLog(m move) (*os.File, error) {
	path := f.logPath(m.name)
	if m.Old.IsZero() {
		if err := removeAll(path); err != nil {
			return nil, err
		}
		for dir := above(m.name); dir != ""; dir = above(dir) {
			if fi, err := os.Lstat(f.logPath(dir)); err == nil && !fi.IsDir() {
				if err := durable.Remove(f.logPath(dir)); err != nil {
					return nil, err
				}
			}
		}
	}
	if err := durable.MkdirAll(filepath.Dir(path), durable.Synced); err != nil {
		return nil, err
	}
	return durable.OpenAppend(path)
}

// unlog takes back the line of a move that could not be made. If that fails
// too, the line is known for what it is.
func (f *Files) unlog(m move) {
	if m.Old.IsZero() {
		f.tidy(m.name)
		return
	}
	file, err := durable.OpenAppend(f.logPath(m.name))
	if err != nil {
		return
	}
	defer file.Close()
	if _, end, last, err := lastLine(file); err == nil && bytes.Equal(last, m.encode()) {
		_ = durable.Truncate(file, end-int64(len(last)))
	}
}

// lastLine returns the last whole line of a file with its end, where that is,
// and how long the file is.
func lastLine(file *os.File) (size, end int64, last []byte, err error) {
	fi, err := file.Stat()
	if err != nil {
		return 0, 0, nil, err
	}
	size = fi.Size()
	for window := int64(4 << 10); ; window *= 16 {
		start := max(0, size-window)
		data := make([]byte, size-start)
		if _, err := file.ReadAt(data, start); err != nil && err != io.EOF {
			return 0, 0, nil, err
		}
		cut := bytes.LastIndexByte(data, '\n') + 1
		begin := bytes.LastIndexByte(data[:max(0, cut-1)], '\n') + 1
		if begin > 0 || start == 0 {
			return size, start + int64(cut), data[begin:cut], nil
		}
	}
}
