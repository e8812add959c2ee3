package s3

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlaces(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	os.WriteFile(config, []byte("[default]\nregion = eu-north-1\n[profile work]\nregion = eu-south-1\nendpoint_url = https://s3.work.example\n"), 0o666)
	for _, tt := range []struct {
		url  string
		o    Options
		env  string // name=value, in front of the files
		want string
	}{
		{"s3://cache/team/a b", Options{}, "", "https://cache.s3.eu-north-1.amazonaws.com/team/a%20b/packs/x"},
		{"s3://cache", Options{}, "AWS_REGION=cn-north-1", "https://cache.s3.cn-north-1.amazonaws.com.cn/packs/x"},
		{"s3://cache/", Options{Region: "us-west-2"}, "AWS_REGION=eu-west-1", "https://cache.s3.us-west-2.amazonaws.com/packs/x"},
		{"s3://my.cache/x/", Options{}, "", "https://s3.eu-north-1.amazonaws.com/my.cache/x/packs/x"},
		{"s3://cache", Options{PathStyle: PathStyle}, "", "https://s3.eu-north-1.amazonaws.com/cache/packs/x"},
		{"s3://cache/p", Options{Endpoint: "minio:9000/"}, "", "https://minio:9000/cache/p/packs/x"},
		{"s3://cache/p", Options{Endpoint: "https://h/s3", PathStyle: VirtualStyle}, "", "https://cache.h/s3/p/packs/x"},
		{"s3://cache", Options{}, "AWS_ENDPOINT_URL=http://localhost:1", "http://localhost:1/cache/packs/x"},
		{"s3://cache", Options{}, "AWS_ENDPOINT_URL_S3=http://localhost:2", "http://localhost:2/cache/packs/x"},
		{"s3://cache", Options{}, "AWS_PROFILE=work", "https://s3.work.example/cache/packs/x"},
		{"s3://cache", Options{Profile: "work"}, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true", "https://cache.s3.eu-south-1.amazonaws.com/packs/x"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			t.Setenv("AWS_CONFIG_FILE", config)
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			b, err := Open(tt.url, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.place.url(b.place.prefix+"packs/x", nil).String(); got != tt.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestBadPlaces(t *testing.T) {
	for _, tt := range []struct {
		url string
		o   Options
	}{
		{"", Options{}},
		{"s3://", Options{}},
		{"s3:///x", Options{}},
		{"s3://b/../x", Options{}},
		{"s3://b/x//y", Options{}},
		{"s3://b:80/x", Options{}},
		{"s3://key:secret@b/x", Options{}},
		{"s3://b/x?y", Options{}},
		{"s3://b c/", Options{}},
		{"https://b/x", Options{}},
		{"s3://b", Options{Endpoint: "ftp://h"}},
		{"s3://b", Options{Endpoint: "https://u:secret@h"}},
		{"s3://b", Options{Endpoint: "https://"}},
		{"s3://b", Options{Region: "eu/west"}},
	} {
		if _, err := Open(tt.url, tt.o); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s %+v: %v", tt.url, tt.o, err)
		}
	}
}

// FuzzParseURL: whatever a URL says, keys stay in the bucket.
func FuzzParseURL(f *testing.F) {
	f.Add("s3://b/x")
	f.Add("s3://b/%2e%2e/x")
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := parseURL(raw)
		if err != nil {
			return
		}
		p.endpoint, p.style = &url.URL{Scheme: "https", Host: "h"}, PathStyle
		if got := p.url(p.prefix+"root", nil).Path; !strings.HasPrefix(got, "/"+p.bucket+"/") || strings.Contains(got, "/../") || strings.Contains(got, "//") {
			t.Errorf("%q is at %q", raw, got)
		}
	})
}

func FuzzParseListing(f *testing.F) {
	f.Add("<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>")
	f.Add("<a><b>")
	f.Fuzz(func(t *testing.T, s string) {
		parseListing([]byte(s))
		if e := parseError([]byte(s)); strings.ContainsAny(e.Reason+e.Message+e.Region, "\n\r\x1b") {
			t.Errorf("%q", e)
		}
	})
}

// TestCredentials: keys come from where they usually are, in the usual order.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	file, config := filepath.Join(dir, "credentials"), filepath.Join(dir, "config")
	os.WriteFile(file, []byte("[default]\naws_access_key_id = file\naws_secret_access_key = s\n"), 0o600)
	os.WriteFile(config, []byte("[profile work]\naws_access_key_id = work\naws_secret_access_key = s\n"), 0o600)
	for _, tt := range []struct{ name, env, profile, want string }{
		{"file", "", "", "file"},
		{"environment", "env", "", "env"},
		{"profile", "", "work", "work"},
		{"no such profile", "", "play", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
			t.Setenv("AWS_CONFIG_FILE", config)
			t.Setenv("AWS_ACCESS_KEY_ID", tt.env)
			t.Setenv("AWS_SECRET_ACCESS_KEY", tt.env)
			got, err := findCredentials(tt.profile).GetWithContext(nil)
			if got.AccessKeyID != tt.want || (tt.want == "") != (err != nil) {
				t.Errorf("got %q, %v", got.AccessKeyID, err)
			}
		})
	}
}
