package ci_test

import (
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/repo/ci"
)

// environ is an environment of lines.
func environ(text string) func(string) string {
	vars := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		vars[name] = value
	}
	return func(name string) string { return vars[name] }
}

// What services say, as their documentation and their jobs have it, and what follows.
func TestDetect(t *testing.T) {
	for _, tt := range []struct {
		what string
		env  string
		want ci.Build
	}{
		{"nobody", `CI=true`, ci.Build{}},

		{"GitHub, a branch", `GITHUB_ACTIONS=true
			GITHUB_EVENT_NAME=push
			GITHUB_REF=refs/heads/feature/x
			GITHUB_SERVER_URL=https://github.com
			GITHUB_REPOSITORY=o/r
			GITHUB_RUN_ID=7
			GITHUB_WORKFLOW=build
			GITHUB_JOB=test`,
			ci.Build{Provider: "GitHub Actions", Job: "build/test", URL: "https://github.com/o/r/actions/runs/7", Branch: "feature/x"}},
		{"GitHub, a pull request", `GITHUB_ACTIONS=true
			GITHUB_EVENT_NAME=pull_request
			GITHUB_REF=refs/pull/12/merge
			GITHUB_HEAD_REF=main
			GITHUB_BASE_REF=release`,
			ci.Build{Provider: "GitHub Actions", Branch: "pr/12", Base: "release", Request: "12"}},
		{"GitHub, in the name of the target", `GITHUB_ACTIONS=true
			GITHUB_EVENT_NAME=pull_request_target
			GITHUB_REF=refs/heads/main
			GITHUB_HEAD_REF=patch-1
			GITHUB_BASE_REF=main
			GITHUB_SERVER_URL=https://g
			GITHUB_REPOSITORY=o/r
			GITHUB_RUN_ID=7`,
			ci.Build{Provider: "GitHub Actions", URL: "https://g/o/r/actions/runs/7", Branch: "pr/run-7", Base: "main", ReadOnly: true}},
		{"GitHub, a comment", `GITHUB_ACTIONS=true
			GITHUB_EVENT_NAME=issue_comment
			GITHUB_REF=refs/heads/main
			GITHUB_SERVER_URL=https://g
			GITHUB_REPOSITORY=o/r
			GITHUB_RUN_ID=8`,
			ci.Build{Provider: "GitHub Actions", URL: "https://g/o/r/actions/runs/8", Branch: "pr/run-8", Base: "main", ReadOnly: true}},
		{"GitHub, a tag", `GITHUB_ACTIONS=true
			GITHUB_REF=refs/tags/v1.0`,
			ci.Build{Provider: "GitHub Actions", Branch: "tag/v1.0"}},
		{"GitHub, a merge queue", `GITHUB_ACTIONS=true
			GITHUB_EVENT_NAME=merge_group
			GITHUB_REF=refs/heads/gh-readonly-queue/release/1/pr-12-0a1b2c`,
			ci.Build{Provider: "GitHub Actions", Branch: "gh-readonly-queue/release/1/pr-12-0a1b2c", Base: "release/1", ReadOnly: true}},
		{"Forgejo, a pull request", `GITHUB_ACTIONS=true
			FORGEJO_ACTIONS=true
			GITHUB_EVENT_NAME=pull_request
			GITHUB_REF=refs/pull/3/head
			GITHUB_BASE_REF=main`,
			ci.Build{Provider: "Forgejo Actions", Branch: "pr/3", Base: "main", Request: "3"}},
		{"Gitea, a branch", `GITHUB_ACTIONS=true
			GITEA_ACTIONS=true
			GITHUB_REF=refs/heads/main`,
			ci.Build{Provider: "Gitea Actions", Branch: "main"}},

		{"GitLab, a branch", `GITLAB_CI=true
			CI_COMMIT_BRANCH=topic
			CI_COMMIT_REF_NAME=topic
			CI_DEFAULT_BRANCH=master
			CI_JOB_NAME=build
			CI_JOB_URL=https://gitlab.com/o/r/-/jobs/7`,
			ci.Build{Provider: "GitLab CI", Job: "build", URL: "https://gitlab.com/o/r/-/jobs/7", Branch: "topic", Default: "master"}},
		{"GitLab, a merge request of a fork", `GITLAB_CI=true
			CI_COMMIT_REF_NAME=main
			CI_MERGE_REQUEST_IID=9
			CI_MERGE_REQUEST_TARGET_BRANCH_NAME=main
			CI_MERGE_REQUEST_SOURCE_PROJECT_ID=77
			CI_MERGE_REQUEST_PROJECT_ID=42`,
			ci.Build{Provider: "GitLab CI", Branch: "pr/9", Base: "main", Request: "9", Fork: true}},
		{"GitLab, a merge request", `GITLAB_CI=true
			CI_COMMIT_REF_NAME=topic
			CI_MERGE_REQUEST_IID=9
			CI_MERGE_REQUEST_TARGET_BRANCH_NAME=main
			CI_MERGE_REQUEST_SOURCE_PROJECT_ID=42
			CI_MERGE_REQUEST_PROJECT_ID=42`,
			ci.Build{Provider: "GitLab CI", Branch: "pr/9", Base: "main", Request: "9"}},
		{"GitLab, a tag", `GITLAB_CI=true
			CI_COMMIT_TAG=v2
			CI_COMMIT_REF_NAME=v2
			CI_DEFAULT_BRANCH=main`,
			ci.Build{Provider: "GitLab CI", Branch: "tag/v2", Default: "main"}},

		{"Buildkite, a branch", `BUILDKITE=true
			BUILDKITE_BRANCH=topic
			BUILDKITE_PULL_REQUEST=false
			BUILDKITE_PULL_REQUEST_BASE_BRANCH=
			BUILDKITE_PIPELINE_DEFAULT_BRANCH=main
			BUILDKITE_PIPELINE_SLUG=p`,
			ci.Build{Provider: "Buildkite", Job: "p", Branch: "topic", Default: "main"}},
		{"Buildkite, a pull request of a fork", `BUILDKITE=true
			BUILDKITE_BRANCH=mallory:main
			BUILDKITE_PULL_REQUEST=5
			BUILDKITE_PULL_REQUEST_BASE_BRANCH=main
			BUILDKITE_PULL_REQUEST_REPO=git://github.com/mallory/r.git
			BUILDKITE_REPO=git://github.com/o/r.git`,
			ci.Build{Provider: "Buildkite", Branch: "pr/5", Base: "main", Request: "5", Fork: true}},

		{"CircleCI, a branch with a pull request", `CIRCLECI=true
			CIRCLE_BRANCH=topic
			CIRCLE_PULL_REQUEST=https://github.com/o/r/pull/4`,
			ci.Build{Provider: "CircleCI", Branch: "topic"}},
		{"CircleCI, a pull request of a fork", `CIRCLECI=true
			CIRCLE_BRANCH=pull/4
			CIRCLE_PR_NUMBER=4`,
			ci.Build{Provider: "CircleCI", Branch: "pr/4", Request: "4", Fork: true}},
		{"CircleCI, which names no number", `CIRCLECI=true
			CIRCLE_BRANCH=pull/4`,
			ci.Build{Provider: "CircleCI", Branch: "pr/4", Request: "4", Fork: true}},

		{"Azure, a branch", `TF_BUILD=True
			BUILD_SOURCEBRANCH=refs/heads/topic/a
			SYSTEM_COLLECTIONURI=https://dev.azure.com/o/
			SYSTEM_TEAMPROJECT=p
			BUILD_BUILDID=7`,
			ci.Build{Provider: "Azure Pipelines", URL: "https://dev.azure.com/o/p/_build/results?buildId=7", Branch: "topic/a"}},
		{"Azure, a pull request from GitHub, of a fork", `TF_BUILD=True
			BUILD_SOURCEBRANCH=refs/pull/6/merge
			SYSTEM_PULLREQUEST_PULLREQUESTID=123456789
			SYSTEM_PULLREQUEST_PULLREQUESTNUMBER=6
			SYSTEM_PULLREQUEST_TARGETBRANCH=main
			SYSTEM_PULLREQUEST_ISFORK=True`,
			ci.Build{Provider: "Azure Pipelines", Branch: "pr/6", Base: "main", Request: "6", Fork: true}},
		{"Azure, a pull request of its own", `TF_BUILD=True
			BUILD_SOURCEBRANCH=refs/pull/6/merge
			SYSTEM_PULLREQUEST_PULLREQUESTID=6
			SYSTEM_PULLREQUEST_TARGETBRANCH=refs/heads/main
			SYSTEM_PULLREQUEST_ISFORK=False`,
			ci.Build{Provider: "Azure Pipelines", Branch: "pr/6", Base: "main", Request: "6"}},
		{"Azure, a tag", `TF_BUILD=True
			BUILD_SOURCEBRANCH=refs/tags/v1`,
			ci.Build{Provider: "Azure Pipelines", Branch: "tag/v1"}},

		{"Travis, a branch", `TRAVIS=true
			TRAVIS_BRANCH=topic
			TRAVIS_PULL_REQUEST=false`,
			ci.Build{Provider: "Travis CI", Branch: "topic"}},
		{"Travis, a pull request of a fork", `TRAVIS=true
			TRAVIS_BRANCH=main
			TRAVIS_PULL_REQUEST=8
			TRAVIS_PULL_REQUEST_SLUG=mallory/r
			TRAVIS_REPO_SLUG=o/r`,
			ci.Build{Provider: "Travis CI", Branch: "pr/8", Base: "main", Request: "8", Fork: true}},

		{"Woodpecker, a pull request", `CI=woodpecker
			CI_COMMIT_BRANCH=main
			CI_COMMIT_PULL_REQUEST=8
			CI_COMMIT_TARGET_BRANCH=main
			CI_REPO_DEFAULT_BRANCH=main`,
			ci.Build{Provider: "Woodpecker", Branch: "pr/8", Base: "main", Default: "main", Request: "8"}},
		{"Drone, a pull request", `DRONE=true
			DRONE_BRANCH=main
			DRONE_TARGET_BRANCH=main
			DRONE_PULL_REQUEST=8
			DRONE_REPO_BRANCH=main`,
			ci.Build{Provider: "Drone", Branch: "pr/8", Base: "main", Default: "main", Request: "8"}},
		{"Drone, a branch", `DRONE=true
			DRONE_BRANCH=topic
			DRONE_REPO_BRANCH=main`,
			ci.Build{Provider: "Drone", Branch: "topic", Default: "main"}},

		{"Bitbucket, a pull request", `BITBUCKET_BUILD_NUMBER=7
			BITBUCKET_BRANCH=topic
			BITBUCKET_PR_ID=2
			BITBUCKET_PR_DESTINATION_BRANCH=main
			BITBUCKET_REPO_FULL_NAME=o/r`,
			ci.Build{Provider: "Bitbucket Pipelines", Job: "o/r", URL: "https://bitbucket.org/o/r/pipelines/results/7", Branch: "pr/2", Base: "main", Request: "2"}},

		{"Jenkins, many branches", `JENKINS_URL=https://j/
			BRANCH_NAME=topic
			JOB_NAME=p/topic
			BUILD_URL=https://j/job/p/7/`,
			ci.Build{Provider: "Jenkins", Job: "p/topic", URL: "https://j/job/p/7/", Branch: "topic"}},
		{"Jenkins, a pull request of a fork", `JENKINS_URL=https://j/
			BRANCH_NAME=PR-12
			CHANGE_ID=12
			CHANGE_TARGET=main
			CHANGE_FORK=mallory`,
			ci.Build{Provider: "Jenkins", Branch: "pr/12", Base: "main", Request: "12", Fork: true}},
		{"Jenkins, one branch", `JENKINS_URL=https://j/
			GIT_BRANCH=origin/topic`,
			ci.Build{Provider: "Jenkins", Branch: "topic"}},
		{"Jenkins, nobody knows", `JENKINS_URL=https://j/
			GIT_BRANCH=detached`,
			ci.Build{Provider: "Jenkins"}},
	} {
		if got := ci.Detect(environ(tt.env)); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.what, got, tt.want)
		}
	}
}

// Whatever a stranger calls their branch, a pull request writes its own.
func TestNamesOfStrangers(t *testing.T) {
	for _, name := range []string{"main", "pr/1", "refs/heads/main", "../main", "tag/v1", ""} {
		for _, text := range []string{
			"GITHUB_ACTIONS=true\nGITHUB_REF=refs/pull/12/merge\nGITHUB_HEAD_REF=" + name,
			"GITLAB_CI=true\nCI_MERGE_REQUEST_IID=12\nCI_COMMIT_REF_NAME=" + name,
			"BUILDKITE=true\nBUILDKITE_PULL_REQUEST=12\nBUILDKITE_BRANCH=" + name,
			"BITBUCKET_BUILD_NUMBER=1\nBITBUCKET_PR_ID=12\nBITBUCKET_BRANCH=" + name,
			"JENKINS_URL=u\nCHANGE_ID=12\nBRANCH_NAME=" + name,
		} {
			if b := ci.Detect(environ(text)); b.Branch != "pr/12" {
				t.Errorf("%q: writes %q", text, b.Branch)
			}
		}
	}
	b := ci.Detect(environ("JENKINS_URL=u\nCHANGE_FORK=x\nCHANGE_ID=1/../../main\nBRANCH_NAME=PR-1"))
	if b.Branch != "PR-1" {
		t.Errorf("what is no number writes %q", b.Branch)
	}
}

func TestBelow(t *testing.T) {
	for _, tt := range []struct {
		b    ci.Build
		want string
	}{
		{ci.Build{Branch: "pr/1", Base: "release", Default: "main"}, "release"},
		{ci.Build{Branch: "topic", Default: "main"}, "main"},
		{ci.Build{Branch: "main", Default: "main"}, ""},
		{ci.Build{Branch: "topic"}, ""},
	} {
		if got := tt.b.Below(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.b, got, tt.want)
		}
	}
}

func TestLearn(t *testing.T) {
	target := ci.Build{Branch: "pr/run-7", Base: "main", ReadOnly: true}
	target.Learn(ci.Event{Request: 12, Default: "main", Fork: true})
	if want := (ci.Build{Branch: "pr/12", Base: "main", Default: "main", Request: "12", Fork: true}); target != want {
		t.Errorf("%+v, want %+v", target, want)
	}
	push := ci.Build{Branch: "topic"}
	push.Learn(ci.Event{Default: "trunk"})
	if want := (ci.Build{Branch: "topic", Default: "trunk"}); push != want {
		t.Errorf("%+v, want %+v", push, want)
	}
}

func TestMayWrite(t *testing.T) {
	request, branch := ci.Build{Branch: "pr/12", Request: "12"}, ci.Build{Branch: "topic"}
	for _, tt := range []struct {
		b      ci.Build
		branch string
		want   bool
	}{
		{request, "pr/12", true}, {request, "pr/12/linux", true}, {request, "pr/1", false}, {request, "pr/123", false}, {request, "main", false},
		{branch, "topic", true}, {branch, "main", true},
	} {
		if got := tt.b.MayWrite(tt.branch); got != tt.want {
			t.Errorf("%+v may write %s: %v, want %v", tt.b, tt.branch, got, tt.want)
		}
	}
}
