// Package s3test runs object stores for tests, each on a port of its own.
package s3test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/cache-tool/cache-tool/internal/test"
)

// The key that all servers know.
const (
	AccessKey = "cache-tool"
	SecretKey = "cache-tool-secret"
)

// A Server is one that can be started. One that is not to be had skips the test.
type Server struct {
	Name string

	args func(data string, port int) []string
	env  []string
	only string // an environment variable without which it is not wanted
}

// Servers are those that there may be. tests/need-go.sh builds them.
var Servers = []Server{
	{
		Name: "versitygw",
		args: func(data string, port int) []string {
			return []string{"--keep-alive", "--quiet", "--port", fmt.Sprintf("127.0.0.1:%d", port), "posix", data}
		},
		env: []string{"ROOT_ACCESS_KEY=" + AccessKey, "ROOT_SECRET_KEY=" + SecretKey},
	},
	{
		Name: "minio", only: "CACHE_TOOL_TEST_MINIO",
		args: func(data string, port int) []string {
			return []string{"server", "--quiet", "--address", fmt.Sprintf("127.0.0.1:%d", port), data}
		},
		env: []string{"MINIO_ROOT_USER=" + AccessKey, "MINIO_ROOT_PASSWORD=" + SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off"},
	},
}

// A Running server.
type Running struct {
	URL  string // the endpoint
	Data string // the directory with its buckets

	Server
	program, dir string
	port         int
	process      *test.Server
}

// binDir is where tests/need-go.sh puts what it builds, before any test says where
// home is.
var binDir = func() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "cache-tool-test", "bin")
}()

// Start runs the server until the test ends.
func (s Server) Start(t testing.TB) *Running {
	t.Helper()
	if s.only != "" && os.Getenv(s.only) == "" {
		t.Skipf("%s takes minutes to build: make test-%s", s.Name, s.Name)
	}
	program := filepath.Join(binDir, s.Name)
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath(s.Name); err != nil {
			t.Skipf("%s is not built here, as make test does where it can be fetched", s.Name)
		}
	}
	base := ""
	if _, err := os.Stat("/dev/shm"); err == nil {
		base = "/dev/shm"
	}
	dir, err := os.MkdirTemp(base, "cache-tool-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &Running{Server: s, program: program, dir: dir, Data: filepath.Join(dir, "data")}
	if err := os.Mkdir(r.Data, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Stop(syscall.SIGTERM) })
	for range 5 { // somebody else may take the port that was free
		r.port = test.FreePort(t)
		if r.Run(t) {
			return r
		}
	}
	log, _ := os.ReadFile(r.log())
	t.Fatalf("%s does not start: %s", s.Name, log)
	return nil
}

func (r *Running) log() string { return filepath.Join(r.dir, "log") }

// Run starts the server, and reports whether it answers.
func (r *Running) Run(t testing.TB) bool {
	log, err := os.OpenFile(r.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		t.Error(err)
		return false
	}
	defer log.Close()
	cmd := exec.Command(r.program, r.args(r.Data, r.port)...)
	cmd.Env = append(append(os.Environ(), "HOME="+r.dir), r.env...)
	cmd.Stdout, cmd.Stderr = log, log
	r.URL = fmt.Sprintf("http://127.0.0.1:%d", r.port)
	r.process = test.StartServer(t, cmd, func() bool {
		code, _ := r.ask("GET", "/")
		return code == http.StatusOK
	})
	return r.process != nil
}

// Stop sends the server a signal and waits for its end.
func (r *Running) Stop(sig syscall.Signal) { r.process.Stop(sig) }

// ask sends a request without a body, and returns the code of the answer, and the
// answer.
func (r *Running) ask(method, path string) (code int, body string) {
	req, err := http.NewRequest(method, r.URL+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	sum := sha256.Sum256(nil)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	resp, err := http.DefaultClient.Do(signer.SignV4(*req, AccessKey, SecretKey, "", "us-east-1"))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

var buckets atomic.Int64

// NewBucket makes a bucket, and returns the URL of a place in it that nobody has used.
func (r *Running) NewBucket(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", buckets.Add(1))
	if code, why := r.ask("PUT", "/"+name); code != http.StatusOK {
		t.Fatalf("make the bucket %s: %d %s", name, code, why)
	}
	return "s3://" + name + "/team a/b"
}

// RemoveBucket removes the bucket of a URL behind the server's back.
func (r *Running) RemoveBucket(t testing.TB, url string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(r.Data, bucketOf(url))); err != nil {
		t.Fatal(err)
	}
}

func bucketOf(url string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(url, "s3://"), "/")
	return name
}

// Unfinished returns how many uploads in parts were begun in the bucket of a URL, and
// not ended.
func (r *Running) Unfinished(t testing.TB, url string) int {
	t.Helper()
	code, list := r.ask("GET", "/"+bucketOf(url)+"?uploads=")
	if code != http.StatusOK {
		t.Fatalf("list uploads: %d %s", code, list)
	}
	return strings.Count(list, "<Upload>")
}

// Setenv lets the test, and what it starts, know the key, and nothing else of what this
// machine knows of object stores.
func Setenv(t testing.TB) {
	t.Helper()
	for name, value := range Environment() {
		t.Setenv(name, value)
	}
}

// Environment is what Setenv sets.
func Environment() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_SESSION_TOKEN": "",
		"AWS_ACCESS_KEY": "", "AWS_SECRET_KEY": "",
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_PROFILE": "",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
	}
}
