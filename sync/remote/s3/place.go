package s3

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// A place is where a bucket is, and how its URLs are made.
type place struct {
	endpoint *url.URL // nil if it is Amazon's, which depends on the region
	bucket   string
	prefix   string // of all keys; ends in a slash, or is empty
	style    Style  // not AutoStyle
	region   string
	sure     bool // somebody has said which region
}

// defaultRegion is what a store is told that has no regions, or that is yet to tell
// where the bucket is.
const defaultRegion = "us-east-1"

// findPlace says where a bucket is, by its URL, its options, the environment and the
// profile, in this order.
func findPlace(rawURL string, o Options, conf profile) (place, error) {
	p, err := parseURL(rawURL)
	if err != nil {
		return p, err
	}
	endpoint := cmp.Or(o.Endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), conf.endpoint)
	if o.Endpoint == "" && os.Getenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == "true" {
		endpoint = ""
	}
	if endpoint != "" {
		if p.endpoint, err = parseEndpoint(endpoint); err != nil {
			return p, err
		}
	}
	region := cmp.Or(o.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), conf.region)
	p.region, p.sure = cmp.Or(region, defaultRegion), region != ""
	if strings.Trim(p.region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return p, fmt.Errorf("s3: %.60q is no region", p.region)
	}
	if p.style = o.PathStyle; p.style == AutoStyle {
		p.style = p.usualStyle()
	}
	return p, nil
}

// parseURL reads s3://BUCKET/PREFIX.
func parseURL(rawURL string) (place, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return place{}, errors.New("s3: malformed URL")
	}
	prefix := strings.Trim(u.Path, "/")
	switch {
	case u.Scheme != "s3" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return place{}, fmt.Errorf("s3: %s: not a URL of the form s3://BUCKET/PREFIX", u.Redacted())
	case u.Host == "" || strings.Trim(u.Host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "":
		return place{}, fmt.Errorf("s3: %s: the URL begins with the name of a bucket; where the store is says its endpoint", u.Redacted())
	case prefix != "" && path.Clean("/"+prefix) != "/"+prefix:
		return place{}, fmt.Errorf("s3: %s: a path with empty parts, or with dots", u.Redacted())
	}
	if prefix != "" {
		prefix += "/"
	}
	return place{bucket: u.Host, prefix: prefix}, nil
}

// parseEndpoint reads the URL of a store. Without http or https it is a host.
func parseEndpoint(raw string) (*url.URL, error) {
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("s3: the endpoint is no URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("s3: endpoint %s: want https://HOST or http://HOST", u.Redacted())
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// usualStyle is that of Amazon for Amazon, whose certificates do not fit names with a
// dot, and the one that needs no name for every bucket elsewhere.
func (p place) usualStyle() Style {
	amazon := p.endpoint == nil || strings.HasSuffix(p.endpoint.Hostname(), ".amazonaws.com")
	if amazon && !strings.Contains(p.bucket, ".") && strings.ToLower(p.bucket) == p.bucket && !strings.Contains(p.bucket, "_") {
		return VirtualStyle
	}
	return PathStyle
}

// base is the URL of the store.
func (p place) base() url.URL {
	if p.endpoint != nil {
		return *p.endpoint
	}
	domain := "amazonaws.com"
	if strings.HasPrefix(p.region, "cn-") {
		domain += ".cn"
	}
	return url.URL{Scheme: "https", Host: fmt.Sprintf("s3.%s.%s", p.region, domain)}
}

// url is where a key is, or the bucket if it is empty.
func (p place) url(key string, query url.Values) *url.URL {
	u := p.base()
	at := "/" + key
	if p.style == PathStyle {
		at = "/" + p.bucket + at
	} else {
		u.Host = p.bucket + "." + u.Host
	}
	u.Path += at
	u.RawPath = s3utils.EncodePath(u.Path) // exactly as it is signed
	u.RawQuery = query.Encode()
	return &u
}

// isLocal reports whether the store is on this machine.
func (p place) isLocal() bool {
	host := p.base()
	ip := net.ParseIP(host.Hostname())
	return host.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
