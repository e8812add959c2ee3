package action

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

func TestSets(t *testing.T) {
	var s Sets
	s = s.Add([]string{"abs/usr/include/stdio.h", "base/a.h"})
	s = s.Add(nil)
	s = s.Add([]string{"base/a.h", "base/b.h"})
	s = s.Add([]string{"abs/usr/include/stdio.h", "base/a.h"})
	want := [][]string{{"abs/usr/include/stdio.h", "base/a.h"}, {"base/a.h", "base/b.h"}, {}}
	if got := s.expand(); !reflect.DeepEqual(got, want) {
		t.Errorf("sets %q, want %q", got, want)
	}
	got, err := ParseSets(s.Encode())
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("came back as %v, %v, want %v", got, err, s)
	}
}

func TestSetsAreBounded(t *testing.T) {
	var s Sets
	for i := range maxSets + 5 {
		s = s.Add([]string{fmt.Sprintf("base/%d.h", i)})
	}
	if n := len(s.Members); n != maxSets {
		t.Errorf("%d sets, want %d", n, maxSets)
	}
	if newest := s.expand()[0][0]; newest != fmt.Sprintf("base/%d.h", maxSets+4) {
		t.Errorf("newest is %s", newest)
	}
	if len(s.Paths) != maxSets {
		t.Errorf("%d paths, want %d: those of dropped sets stay", len(s.Paths), maxSets)
	}
}

func TestMergeSets(t *testing.T) {
	ours := Sets{}.Add([]string{"base/a"}).Add([]string{"base/b"})
	theirs := Sets{}.Add([]string{"base/a"}).Add([]string{"base/c"})
	merged, err := MergeSets(ours.Encode(), theirs.Encode())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSets(merged)
	want := [][]string{{"base/b"}, {"base/a"}, {"base/c"}}
	if got := s.expand(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("merged %q, %v, want %q", got, err, want)
	}
	if _, err := MergeSets(merged, []byte("no")); !errors.Is(err, ErrBadSets) {
		t.Errorf("merge with garbage: %v", err)
	}
}

func FuzzParseSets(f *testing.F) {
	f.Add(Sets{}.Encode())
	f.Add(Sets{}.Add([]string{"base/a", "base/b"}).Add([]string{"abs/b"}).Encode())
	f.Add([]byte(setsMagic + "\x01base/a\x00\x01\x01"))
	f.Add([]byte(setsMagic + "\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := ParseSets(body)
		if err != nil {
			if !errors.Is(err, ErrBadSets) {
				t.Errorf("%v is no %v", err, ErrBadSets)
			}
			return
		}
		for _, set := range s.expand() {
			if !slices.IsSorted(set) {
				t.Errorf("set %q is not sorted", set)
			}
		}
		again, err := ParseSets(s.Encode())
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("% x came back as %v, %v, want %v", body, again, err, s)
		}
		if merged, err := MergeSets(body, s.Encode()); err != nil || bytes.Equal(merged, body) && len(s.Members) == 0 && len(s.Paths) > 0 {
			t.Errorf("merged with itself: %q, %v", merged, err)
		}
	})
}
