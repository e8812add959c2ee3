package webdav

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/sync/remote"
)

const listing = `<?xml version="1.0"?>
<D:multistatus xmlns:D="DAV:" xmlns:x="urn:x">
<D:response><D:href>/a%20b/packs/</D:href><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
<D:response><D:href>http://elsewhere/proxied/packs/one.pack</D:href>
 <D:propstat><D:prop><D:getcontentlength>12</D:getcontentlength><D:resourcetype/><D:getlastmodified>Mon, 23 Nov 2026 08:00:00 GMT</D:getlastmodified></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>
 <D:propstat><D:prop><x:other/></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response>
<D:response><D:href>/packs/t%77o</D:href><D:propstat><D:prop><D:getcontentlength>0</D:getcontentlength><D:resourcetype></D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
<D:response><D:href>/packs/gone</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>
<D:response><D:href>/packs/sub</D:href><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
<D:response><D:href>%zz</D:href></D:response>
</D:multistatus>`

func TestParseListing(t *testing.T) {
	got, err := parseListing(strings.NewReader(listing))
	want := []remote.Info{
		{Name: "one.pack", Size: 12, Time: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)},
		{Name: "two"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func FuzzParseListing(f *testing.F) {
	f.Add(listing)
	f.Add("<multistatus>")
	f.Fuzz(func(t *testing.T, s string) {
		all, err := parseListing(strings.NewReader(s))
		for _, info := range all {
			if err == nil && strings.Contains(info.Name, "/") && info.Name != "/" {
				t.Errorf("a file called %q", info.Name)
			}
		}
	})
}
