package tests

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote/webdav/davtest"
)

// An authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: test.Dir(t), name: name}
	a.cert = &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var err error
	if a.key, err = certify(a.dir, name, a.cert, a.cert, nil); err != nil {
		t.Fatal(err)
	}
	return a
}

// file is where its own certificate is.
func (a *authority) file() string { return filepath.Join(a.dir, a.name+".crt") }

// signs makes a certificate, and returns where it and its key are.
func (a *authority) signs(name string, c *x509.Certificate) (cert, key string) {
	a.t.Helper()
	c.Subject = pkix.Name{CommonName: name}
	if _, err := certify(a.dir, name, c, a.cert, a.key); err != nil {
		a.t.Fatal(err)
	}
	return filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
}

// forHost is a certificate of a server on this machine.
func forHost() *x509.Certificate {
	return &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

func forClient() *x509.Certificate {
	return &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

// TestWrongCertificate: nobody talks to a server that cannot prove who it is, and a
// build goes on without it.
func TestWrongCertificate(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	elsewhere, old, young, client := forHost(), forHost(), forHost(), forClient()
	elsewhere.IPAddresses, elsewhere.DNSNames = nil, []string{"cache.example.org"}
	old.NotBefore, old.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	young.NotBefore, young.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	client.IPAddresses = forHost().IPAddresses
	for _, tt := range []struct {
		name string
		by   *authority
		cert *x509.Certificate
		says string
	}{
		{"of somebody else", theirs, forHost(), "certificate signed by unknown authority"},
		{"for another host", ours, elsewhere, "cannot validate certificate for 127.0.0.1"},
		{"expired", ours, old, "certificate has expired or is not yet valid"},
		{"not yet valid", ours, young, "certificate has expired or is not yet valid"},
		{"of a client", ours, client, "incompatible key usage"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cert, key := tt.by.signs("host", tt.cert)
			s := startServe(t, "--tls-cert", cert, "--tls-key", key, "-v")
			h := s.connected(t)
			h.must("config", "set", "remote.origin.caFile", ours.file())
			h.must("put", "value", h.file("value"))
			for _, args := range [][]string{{"push"}, {"pull"}, {"fetch"}, {"clone", "-c", "remote.origin.caFile=" + ours.file(), s.url, h.work("clone")}} {
				began := time.Now()
				r := h.run(args...)
				wantClear(t, r, "origin")
				if !strings.Contains(r.err, tt.says) || !strings.Contains(r.err, "remote.origin.caFile") {
					t.Errorf("%v", r)
				}
				if took := time.Since(began); took > boundedBy {
					t.Errorf("it takes %v", took)
				}
			}
			if strings.Contains(s.log(), "op=") {
				t.Errorf("it was asked something: %s", s.log())
			}
		})
	}
}

// TestClientCertificates lets machines in by what they can prove to be.
func TestClientCertificates(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	cert, key := ours.signs("host", forHost())
	s := startServe(t, "--tls-cert", cert, "--tls-key", key, "--client-ca", ours.file())
	s.env = nil // no token
	admin := newHost(t)
	admin.setenv("CACHE_TOOL_REPO", s.repo)
	made := admin.must("token", "create", "--cert", "builder", "--write", "main")
	if made.out != "" {
		t.Errorf("a certificate needs no secret: %v", made)
	}
	admin.must("token", "create", "--cert", "reader", "--read", "main")

	connect := func(by *authority, name string) *host {
		h := s.connected(t)
		h.must("config", "set", "remote.origin.caFile", ours.file())
		if by != nil {
			cert, key := by.signs(name, forClient())
			h.must("config", "set", "remote.origin.certFile", cert)
			h.must("config", "set", "remote.origin.keyFile", key)
		}
		if err := h.put(name); err != nil {
			t.Fatal(err)
		}
		return h
	}
	refused := func(h *host, says string, args ...string) {
		t.Helper()
		r := h.run(args...)
		wantClear(t, r, "origin")
		if !strings.Contains(r.err, says) {
			t.Errorf("%v, want %q", r, says)
		}
	}
	builder, reader := connect(ours, "builder"), connect(ours, "reader")
	builder.must("push")
	refused(builder, "builder may not move refs/heads/other here", "push", "origin", "main:other")
	reader.must("pull")
	reader.holds("builder", "reader")
	refused(reader, "reader may write nothing here", "push")
	refused(connect(nil, "nobody"), "who shows no token may read nothing here", "pull")
	refused(connect(ours, "stranger"), "stranger may read nothing here", "pull")
	refused(connect(theirs, "builder"), "who shows no token may read nothing here", "pull") // it is not even shown

	// The end of a right is the end of it, also for a server that is running.
	id, _, _ := strings.Cut(made.err, ":")
	admin.must("token", "revoke", id)
	refused(builder, "builder may read nothing here", "pull")
	reader.must("pull")
	admin.must("fsck")
}

// TestCertificateRenewed replaces the certificate of a server that is running.
func TestCertificateRenewed(t *testing.T) {
	ours, later := newAuthority(t, "ours"), newAuthority(t, "later")
	cert, key := ours.signs("host", forHost())
	s := startServe(t, "--tls-cert", cert, "--tls-key", key)
	h := s.connected(t)
	h.must("config", "set", "remote.origin.caFile", later.file())
	if err := h.put("value"); err != nil {
		t.Fatal(err)
	}
	wantClear(t, h.run("push"), "certificate")
	newCert, newKey := later.signs("host", forHost())
	write(t, key, read(t, newKey))
	write(t, cert, read(t, newCert))
	h.must("push")
}

// TestWebDAVEncrypted talks to WebDAV servers that stand behind a proxy which
// encrypts, and know nothing of that.
func TestWebDAVEncrypted(t *testing.T) {
	ours := newAuthority(t, "ours")
	cert, key := ours.signs("host", forHost())
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range davtest.Servers {
		t.Run(server.Name, func(t *testing.T) {
			s := startDAV(t, server)
			n := newTLSNetwork(t, s.url, pair)
			h := s.host(t)
			h.must("remote", "add", "origin", n.url)
			if err := h.put("value"); err != nil {
				t.Fatal(err)
			}
			r := h.run("push")
			wantClear(t, r, "certificate")
			h.must("config", "set", "remote.origin.caFile", ours.file())
			h.must("push")
			if err := h.put("more"); err != nil {
				t.Fatal(err)
			}
			h.must("push")
			other := s.host(t)
			other.must("clone", "--config", "remote.origin.caFile="+ours.file(), n.url, other.repo())
			other.holds("value", "more")
			s.sound(t)
		})
	}
}

// TestWrongScheme: who forgets an s, or writes one too many, is told.
func TestWrongScheme(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t, "ours")
	cert, key := ours.signs("host", forHost())
	plain, encrypted := startServe(t), startServe(t, "--tls-cert", cert, "--tls-key", key)
	dav := startDAV(t, davtest.Servers[0])
	for _, tt := range []struct{ name, url, says string }{
		{"https to http", strings.Replace(plain.url, "http:", "https:", 1), "server gave HTTP response to HTTPS client"},
		{"http to https", strings.Replace(encrypted.url, "https:", "http:", 1), "https"},
		{"server for WebDAV", "dav+" + plain.url, "without dav+"},
		{"WebDAV for server", strings.TrimPrefix(dav.url, "dav+"), "a WebDAV server is dav+http"},
		{"deeper", plain.url + "/cache", "is the URL right?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := plain.host(t)
			h.must("remote", "add", "origin", tt.url)
			h.must("config", "set", "remote.origin.timeout", "2")
			h.must("put", "value", h.file("value"))
			for _, verb := range []string{"push", "pull"} {
				r := h.run(verb)
				wantClear(t, r, "origin")
				if !strings.Contains(r.err, tt.says) {
					t.Errorf("%v, want %q", r, tt.says)
				}
			}
		})
	}
}
