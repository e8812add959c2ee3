package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/sync/auth"
)

// TLSConfig returns how to encrypt: with the certificate and key in these files,
// which are read again when they change. If clientCA is not empty, clients may
// show certificates that one of the authorities in it has signed.
func TLSConfig(cert, key, clientCA string) (*tls.Config, error) {
	p := &keyPair{cert: cert, key: key}
	if _, err := p.get(nil); err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: p.get}
	if clientCA != "" {
		pool, err := auth.ReadPool(clientCA)
		if err != nil {
			return nil, err
		}
		c.ClientCAs, c.ClientAuth = pool, tls.VerifyClientCertIfGiven
	}
	return c, nil
}

// A keyPair is a certificate and its key, in files that somebody renews now and
// then.
type keyPair struct {
	cert, key string

	mu   sync.Mutex
	pair *tls.Certificate // guarded by mu; as last read
	time time.Time        // guarded by mu; of the certificate's file then
}

// get returns the certificate. New files that do not belong together, as while
// they are being replaced, change nothing.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	is, err := os.Stat(p.cert)
	if err == nil && p.pair != nil && is.ModTime().Equal(p.time) {
		return p.pair, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(p.cert, p.key)
	}
	switch {
	case err == nil:
		p.pair, p.time = &pair, is.ModTime()
	case p.pair == nil:
		return nil, fmt.Errorf("certificate %s: %w", p.cert, err)
	}
	return p.pair, nil
}
