package s3

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"gopkg.in/ini.v1"
)

// ErrNoCredentials says that nobody knows a key for the store.
var ErrNoCredentials = errors.New("no credentials were found")

// A profile is what the files in ~/.aws say about where a store is.
type profile struct{ endpoint, region string }

// readProfile reads a profile; the one of the environment, or the default one, if
// name is empty. Files need not be there.
func readProfile(name string) (profile, error) {
	name = cmp.Or(name, os.Getenv("AWS_PROFILE"), "default")
	home, _ := os.UserHomeDir()
	var p profile
	for _, f := range []struct{ file, section string }{
		{cmp.Or(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(home, ".aws", "credentials")), name},
		{cmp.Or(os.Getenv("AWS_CONFIG_FILE"), filepath.Join(home, ".aws", "config")), "profile " + name},
		{cmp.Or(os.Getenv("AWS_CONFIG_FILE"), filepath.Join(home, ".aws", "config")), name},
	} {
		file, err := ini.Load(f.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return p, fmt.Errorf("%s: %w", f.file, err)
		}
		if section, err := file.GetSection(f.section); err == nil {
			p.endpoint = cmp.Or(p.endpoint, section.Key("endpoint_url").String())
			p.region = cmp.Or(p.region, section.Key("region").String())
		}
	}
	return p, nil
}

// findCredentials looks for a key where other programs do: in the environment, in
// the files of ~/.aws, and at who gives a role to this container or machine.
func findCredentials(profile string) *credentials.Credentials {
	return credentials.New(&sources{all: []credentials.Provider{
		&credentials.EnvAWS{},
		&credentials.FileAWSCredentials{Profile: profile},
		&credentials.IAM{Client: roleClient()},
	}})
}

// roleClient is for who gives roles. On a machine that has none nobody answers, and
// that must be known soon.
func roleClient() *http.Client {
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, Proxy: proxyBeyondMachine},
	}
}

// proxyBeyondMachine is the proxy of the environment, but not for what answers on this
// machine's own link.
func proxyBeyondMachine(req *http.Request) (*url.URL, error) {
	if ip := net.ParseIP(req.URL.Hostname()); ip != nil && ip.IsLinkLocalUnicast() {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

// sources are asked for a key, one after the other. Unlike the chain of the library
// they say why there is none.
type sources struct {
	all []credentials.Provider

	found  credentials.Provider
	failed error // when nothing was found last
	at     time.Time
}

// failedFor is how long it is believed that there is no key: to look for one can take
// seconds, and many requests may be waiting.
const failedFor = 20 * time.Second

// Retrieve looks for a key.
func (s *sources) Retrieve() (credentials.Value, error) { return s.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext looks for a key.
func (s *sources) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	if s.failed != nil && time.Since(s.at) < failedFor {
		return credentials.Value{}, s.failed
	}
	var why []error
	for _, p := range s.all {
		_, isRole := p.(*credentials.IAM)
		if isRole && os.Getenv("AWS_EC2_METADATA_DISABLED") == "true" && !hasRole() {
			continue
		}
		v, err := p.RetrieveWithCredContext(cc)
		if err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
			s.found, s.failed = p, nil
			return v, nil
		}
		if err != nil && cc != nil && cc.Context != nil && cc.Context.Err() != nil {
			return v, cc.Context.Err()
		}
		if err != nil && isRole {
			err = fmt.Errorf("who gives roles here says: %w", err)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			why = append(why, err)
		}
	}
	s.failed, s.at = ErrNoCredentials, time.Now()
	if len(why) > 0 {
		s.failed = fmt.Errorf("%w: %w", ErrNoCredentials, why[0])
	}
	return credentials.Value{}, s.failed
}

// hasRole reports whether the environment says who gives this process a role, so that
// the machine need not be asked.
func hasRole() bool {
	for _, name := range []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// IsExpired reports whether the key is to be looked for again.
func (s *sources) IsExpired() bool { return s.found == nil || s.found.IsExpired() }
