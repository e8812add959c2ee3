package commands

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/frontend/ccache"
)

// gatewayEnv has this program be a gateway of the repository that it names, in a process
// of its own as it is beside a build, until standard input ends.
const gatewayEnv = "CACHE_TOOL_TEST_GATEWAY"

func beGateway(dir string) error {
	s := newSession(Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	s.repoFlag = dir
	defer s.close()
	ctx := context.Background()
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	g, err := s.startGateway(ctx, r, refs.Branch("topic"))
	if err != nil {
		return err
	}
	fmt.Println(g.env("CCACHE_REMOTE_STORAGE"))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return g.Close(ctx)
}

// A warm entry of 1 to 64 KiB with 64 clients at once: beside nginx, which serves the
// same bytes as files.
func BenchmarkGatewayGet(b *testing.B) {
	const entries, clients = 500, 64
	dir := b.TempDir()
	values := map[string][]byte{}
	var keys []string
	random := rand.NewChaCha8([32]byte{1})
	for i := range entries {
		key := fmt.Sprintf("%040x", i)
		value := make([]byte, (1<<10)<<(i%7)) // 1 to 64 KiB
		random.Read(value)
		values[key], keys = value, append(keys, key)
	}
	b.Run("gateway", func(b *testing.B) {
		get(b, gatewayOf(b, filepath.Join(dir, "repo"), values), keys, clients)
	})
	b.Run("nginx", func(b *testing.B) {
		get(b, nginxOf(b, filepath.Join(dir, "nginx"), values), keys, clients)
	})
}

// gatewayOf starts a gateway of a branch that is read through main, which has values.
func gatewayOf(b *testing.B, dir string, values map[string][]byte) string {
	ctx := context.Background()
	r, err := repo.OpenOrInit(ctx, dir, repo.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	v, err := r.Values(ctx, refs.Branch("main"), repo.ValuesOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for key, value := range values {
		if err := v.Put(ctx, ccache.Client.Kind, key, entry.Value{Size: int64(len(value)), Body: strings.NewReader(string(value))}); err != nil {
			b.Fatal(err)
		}
	}
	if err := v.Close(ctx); err != nil {
		b.Fatal(err)
	}
	if _, _, err := r.FoldStage(ctx, refs.Branch("main"), ""); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), gatewayEnv+"="+dir, "CCACHE_REMOTE_STORAGE=")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	at, _, _ := strings.Cut(line, "|")
	return at
}

func nginxOf(b *testing.B, dir string, values map[string][]byte) string {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		b.Skip("no nginx: apt-get install nginx-light")
	}
	for key, value := range values {
		write(b, filepath.Join(dir, "www", key), string(value))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	config := filepath.Join(dir, "nginx.conf")
	write(b, config, fmt.Sprintf(`
daemon off; pid %[1]s/pid; error_log %[1]s/errors; worker_processes 2; user %[3]s;
events { worker_connections 256; }
http {
	access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; open_file_cache max=1000;
	client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
	server { listen %[2]s; root %[1]s/www; }
}
`, dir, at, "root"))
	cmd := exec.Command(nginx, "-c", config, "-e", filepath.Join(dir, "errors"))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	for range 100 {
		if c, err := net.Dial("tcp", at); err == nil {
			c.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return "http://" + at
}

// get has clients get keys, b.N times in all, and reports the median and the 99th
// percentile of how long one took.
func get(b *testing.B, at string, keys []string, clients int) {
	u, err := url.Parse(at)
	if err != nil {
		b.Fatal(err)
	}
	took := make([][]time.Duration, clients)
	conns := make([]*getter, clients)
	for i := range conns {
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		conns[i] = &getter{c, bufio.NewReaderSize(c, 128<<10)}
		for j := range keys { // warm
			if j%clients == i {
				if err := conns[i].get(u, keys[j]); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	var working sync.WaitGroup
	b.ResetTimer()
	for i, c := range conns {
		working.Go(func() {
			for j := range b.N/clients + 1 {
				began := time.Now()
				if err := c.get(u, keys[(j*31+i*7)%len(keys)]); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	working.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "µs-p99")
}

// A getter is a client that costs little beside what it measures.
type getter struct {
	w io.Writer
	r *bufio.Reader
}

func (g *getter) get(u *url.URL, key string) error {
	if _, err := fmt.Fprintf(g.w, "GET %s/%s HTTP/1.1\r\nHost: %s\r\n\r\n", u.Path, key, u.Host); err != nil {
		return err
	}
	size := -1
	for first := true; ; first = false {
		line, err := g.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch text := string(line); {
		case first && !strings.HasPrefix(text, "HTTP/1.1 200 "):
			return fmt.Errorf("%s: %s", key, text)
		case strings.HasPrefix(text, "Content-Length: "):
			if size, err = strconv.Atoi(strings.TrimSpace(text[len("Content-Length: "):])); err != nil {
				return err
			}
		case text == "\r\n":
			_, err := g.r.Discard(size)
			return err
		}
	}
}

// A go build of this program with all of it in the cache, beside Go's own cache; and
// with nothing there, beside none.
func BenchmarkGoBuild(b *testing.B) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		b.Skip("no go: https://go.dev/dl")
	}
	dir := b.TempDir()
	build := func(b *testing.B, name string, env ...string) {
		cmd := exec.Command(goTool, "build", "-o", filepath.Join(dir, "out"), "..")
		cmd.Env = append(os.Environ(), append(env, "GOCACHE="+filepath.Join(dir, name), "CGO_ENABLED=0", "GOFLAGS=")...)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	helper := func(repo string) string {
		return "GOCACHEPROG=" + commandLine(os.Args[0], "--repo", filepath.Join(dir, repo), "goprog")
	}
	cold := 0
	for _, bench := range []struct {
		name string
		run  func(b *testing.B)
	}{
		{"cold/none", func(b *testing.B) { cold++; build(b, fmt.Sprint("none", cold)) }},
		{"cold/goprog", func(b *testing.B) { cold++; build(b, "unused", helper(fmt.Sprint("repo", cold))) }},
		{"warm/gocache", func(b *testing.B) { build(b, "warm") }},
		{"warm/goprog", func(b *testing.B) { build(b, "unused", helper("warm")) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			if strings.HasPrefix(bench.name, "warm") {
				bench.run(b)
				b.ResetTimer()
			}
			for range b.N {
				bench.run(b)
			}
		})
	}
}
