// Package davtest runs WebDAV servers for tests: those of Debian, each on a port
// of its own.
package davtest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
)

// A Server is one that can be started. One that is not installed skips the test.
type Server struct {
	Name    string
	program string
	needs   []string // files without which it is not to be had
	config  func(dir string, port int) string
	args    func(dir, config string, port int) []string
}

const (
	apacheModules = "/usr/lib/apache2/modules/"
	nginxDavExt   = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so"
	lighttpdDav   = "/usr/lib/lighttpd/mod_webdav.so"
)

// The password of the user "u" is "p" wherever one is wanted.
const (
	basicFile  = "u:{SHA}UWuXg/ylF+7L0dBk2i0WUxCxl1k=\n"
	digestFile = "u:cache:938f724755798c615d1be0215a5611de\n"
)

// Servers are those that there may be.
var Servers = []Server{
	{
		Name: "apache", program: "apache2", needs: []string{apacheModules + "mod_dav_fs.so"},
		config: func(dir string, port int) string {
			config := ""
			for _, m := range strings.Fields("mpm_event authn_core authn_file authz_core authz_user auth_basic auth_digest dav dav_fs") {
				config += fmt.Sprintf("LoadModule %s_module %smod_%s.so\n", m, apacheModules, m)
			}
			if os.Getuid() == 0 {
				config += "User www-data\nGroup www-data\n"
			}
			return config + fmt.Sprintf(`
ServerRoot %[1]s
ServerName localhost
Listen 127.0.0.1:%[2]d
PidFile %[1]s/pid
Mutex file:%[1]s
ErrorLog %[1]s/error.log
DavLockDB %[1]s/locks
DocumentRoot %[1]s/data
<Directory %[1]s/data>
  Dav On
  Require all granted
</Directory>
<Directory %[1]s/data/basic>
  AuthType Basic
  AuthName cache
  AuthUserFile %[1]s/basic
  Require valid-user
</Directory>
<Directory %[1]s/data/digest>
  AuthType Digest
  AuthName cache
  AuthDigestDomain /digest/
  AuthUserFile %[1]s/digest
  Require valid-user
</Directory>
`, dir, port)
		},
		args: func(_, config string, _ int) []string { return []string{"-f", config, "-DFOREGROUND"} },
	},
	{
		Name: "nginx", program: "nginx", needs: []string{nginxDavExt},
		config: func(dir string, port int) string {
			as := ""
			if os.Getuid() == 0 {
				as = "user root;"
			}
			return fmt.Sprintf(`
load_module %[3]s;
%[4]s daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path %[1]s/tmp1; proxy_temp_path %[1]s/tmp2; fastcgi_temp_path %[1]s/tmp3; uwsgi_temp_path %[1]s/tmp4; scgi_temp_path %[1]s/tmp5;
  server {
    listen 127.0.0.1:%[2]d;
    root %[1]s/data;
    client_max_body_size 0;
    dav_methods PUT DELETE MKCOL COPY MOVE;
    dav_ext_methods PROPFIND OPTIONS;
  }
}
`, dir, port, nginxDavExt, as)
		},
		args: func(dir, config string, _ int) []string {
			return []string{"-p", dir, "-c", config, "-e", dir + "/error.log"}
		},
	},
	{
		Name: "lighttpd", program: "lighttpd", needs: []string{lighttpdDav},
		config: func(dir string, port int) string {
			return fmt.Sprintf(`
server.modules = ("mod_webdav")
server.bind = "127.0.0.1"
server.port = %[2]d
server.document-root = "%[1]s/data"
server.errorlog = "%[1]s/error.log"
server.upload-dirs = ("%[1]s")
webdav.activate = "enable"
`, dir, port)
		},
		args: func(_, config string, _ int) []string { return []string{"-D", "-f", config} },
	},
	{
		Name: "rclone", program: "rclone",
		args: func(dir, _ string, port int) []string {
			return []string{"serve", "webdav", dir + "/data", "--addr", fmt.Sprintf("127.0.0.1:%d", port), "--config", "", "--log-level", "ERROR"}
		},
	},
}

// A Running server.
type Running struct {
	URL  string // ends in a slash
	Data string // the directory that it serves

	Server
	program, dir string
	port         int
	process      *test.Server
}

// Start runs the server until the test ends.
func (s Server) Start(t testing.TB) *Running {
	t.Helper()
	base := ""
	if _, err := os.Stat("/dev/shm"); err == nil {
		base = "/dev/shm"
	}
	return s.StartIn(t, base)
}

// StartIn is Start with all that the server writes in a new directory in base. One
// that gives up root must be able to get there.
func (s Server) StartIn(t testing.TB, base string) *Running {
	t.Helper()
	program, err := exec.LookPath(s.program)
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/" + s.program); err != nil {
			t.Skipf("%s is not installed", s.program)
		}
	}
	for _, file := range s.needs {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("%s has no WebDAV here: %v", s.program, err)
		}
	}
	dir := serverDir(t, base)
	r := &Running{Server: s, program: program, dir: dir, Data: filepath.Join(dir, "data")}
	t.Cleanup(func() { r.Stop(syscall.SIGTERM) })
	for range 5 { // somebody else may take the port that was free
		r.port = test.FreePort(t)
		if r.Run(t) {
			return r
		}
	}
	log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
	t.Fatalf("%s does not start: %s", s.Name, log)
	return nil
}

// serverDir makes a directory that a server which gives up root can use.
func serverDir(t testing.TB, base string) string {
	dir, err := os.MkdirTemp(base, "cache-tool-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	for _, sub := range []string{"data/basic", "data/digest"} {
		os.MkdirAll(filepath.Join(dir, sub), 0o755)
	}
	os.WriteFile(filepath.Join(dir, "basic"), []byte(basicFile), 0o644)
	os.WriteFile(filepath.Join(dir, "digest"), []byte(digestFile), 0o644)
	if u, err := user.Lookup("www-data"); err == nil && os.Getuid() == 0 {
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		for _, sub := range []string{"", "data", "data/basic", "data/digest"} {
			os.Chown(filepath.Join(dir, sub), uid, gid)
		}
	}
	return dir
}

// Run starts the server, and reports whether it answers.
func (r *Running) Run(t testing.TB) bool {
	config := filepath.Join(r.dir, "config")
	if r.config != nil {
		if err := os.WriteFile(config, []byte(r.config(r.dir, r.port)), 0o644); err != nil {
			t.Error(err)
			return false
		}
	}
	cmd := exec.Command(r.program, r.args(r.dir, config, r.port)...)
	cmd.Env = append(os.Environ(), "HOME="+r.dir)
	r.URL = fmt.Sprintf("http://127.0.0.1:%d/", r.port)
	r.process = test.StartServer(t, cmd, func() bool {
		resp, err := http.Get(r.URL)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return r.process != nil
}

// Stop sends the server a signal and waits for its end.
func (r *Running) Stop(sig syscall.Signal) { r.process.Stop(sig) }

var buckets atomic.Int64

// NewBucket returns the URL of a bucket that nobody has used, and that is not
// there, nor what is above it.
func NewBucket(url string) string { return fmt.Sprintf("%sa%d/b c", url, buckets.Add(1)) }
