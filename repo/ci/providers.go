package ci

// A provider says how a service names the facts. Of several variables the first one
// that is set counts.
type provider struct {
	name string
	runs func(env) bool

	job, url string // texts with variables in them
	run      string // a variable that tells this run from all others

	request []string // the number of the pull request
	target  []string // what that is to be merged into
	source  []string // the branch of a pull request, also where its number is not known
	fork    func(env) bool

	tag      []string
	branch   []string // in any of the forms that parseRef reads
	primary  []string // the project's default branch
	borrowed []string // events of pull requests that run in the name of the default branch

	remote string // is before a branch's name, if that is how Git calls it
}

func set(name string) func(env) bool { return func(e env) bool { return e(name) != "" } }

func is(name, value string) func(env) bool { return func(e env) bool { return e(name) == value } }

// differ reports whether a job is of a repository, and what it builds of another one.
func differ(source, target string) func(env) bool {
	return func(e env) bool { return e(source) != "" && e(target) != "" && e(source) != e(target) }
}

// actions is GitHub Actions, which others took over with its names.
func actions(name, marker string) provider {
	return provider{
		name: name, runs: set(marker),
		job: "$GITHUB_WORKFLOW/$GITHUB_JOB", url: "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID", run: "GITHUB_RUN_ID",
		branch: []string{"GITHUB_REF"}, target: []string{"GITHUB_BASE_REF"}, source: []string{"GITHUB_HEAD_REF"},
		borrowed: []string{"pull_request_target", "issue_comment", "workflow_run"},
	}
}

// providers are those that we know. Who calls itself by several names comes first
// under its own.
var providers = []provider{
	actions("Forgejo Actions", "FORGEJO_ACTIONS"),
	actions("Gitea Actions", "GITEA_ACTIONS"),
	actions("GitHub Actions", "GITHUB_ACTIONS"),
	{
		name: "GitLab CI", runs: set("GITLAB_CI"),
		job: "$CI_JOB_NAME", url: "$CI_JOB_URL", run: "CI_JOB_ID",
		request: []string{"CI_MERGE_REQUEST_IID", "CI_EXTERNAL_PULL_REQUEST_IID"},
		target:  []string{"CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME"},
		fork: func(e env) bool {
			return differ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "CI_MERGE_REQUEST_PROJECT_ID")(e) ||
				differ("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY", "CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY")(e)
		},
		tag: []string{"CI_COMMIT_TAG"}, branch: []string{"CI_COMMIT_BRANCH", "CI_COMMIT_REF_NAME"}, primary: []string{"CI_DEFAULT_BRANCH"},
	},
	{
		name: "Buildkite", runs: set("BUILDKITE"),
		job: "$BUILDKITE_PIPELINE_SLUG/$BUILDKITE_LABEL", url: "$BUILDKITE_BUILD_URL", run: "BUILDKITE_JOB_ID",
		request: []string{"BUILDKITE_PULL_REQUEST"}, target: []string{"BUILDKITE_PULL_REQUEST_BASE_BRANCH"},
		fork: differ("BUILDKITE_PULL_REQUEST_REPO", "BUILDKITE_REPO"),
		tag:  []string{"BUILDKITE_TAG"}, branch: []string{"BUILDKITE_BRANCH"}, primary: []string{"BUILDKITE_PIPELINE_DEFAULT_BRANCH"},
	},
	{
		// It builds branches, and says so of pull requests only where they come from forks.
		name: "CircleCI", runs: set("CIRCLECI"),
		job: "$CIRCLE_JOB", url: "$CIRCLE_BUILD_URL", run: "CIRCLE_WORKFLOW_JOB_ID",
		request: []string{"CIRCLE_PR_NUMBER"}, fork: func(e env) bool { return parseRef(e("CIRCLE_BRANCH")).request != "" || e("CIRCLE_PR_NUMBER") != "" },
		tag: []string{"CIRCLE_TAG"}, branch: []string{"CIRCLE_BRANCH"},
	},
	{
		name: "Azure Pipelines", runs: set("TF_BUILD"),
		job: "$BUILD_DEFINITIONNAME", url: "$SYSTEM_COLLECTIONURI$SYSTEM_TEAMPROJECT/_build/results?buildId=$BUILD_BUILDID", run: "BUILD_BUILDID",
		request: []string{"SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"},
		target:  []string{"SYSTEM_PULLREQUEST_TARGETBRANCH"}, fork: is("SYSTEM_PULLREQUEST_ISFORK", "True"),
		branch: []string{"BUILD_SOURCEBRANCH"},
	},
	{
		name: "Travis CI", runs: set("TRAVIS"),
		job: "$TRAVIS_JOB_NAME", url: "$TRAVIS_JOB_WEB_URL", run: "TRAVIS_JOB_ID",
		request: []string{"TRAVIS_PULL_REQUEST"}, target: []string{"TRAVIS_BRANCH"}, fork: differ("TRAVIS_PULL_REQUEST_SLUG", "TRAVIS_REPO_SLUG"),
		tag: []string{"TRAVIS_TAG"}, branch: []string{"TRAVIS_BRANCH"},
	},
	{
		name: "Woodpecker", runs: is("CI", "woodpecker"),
		job: "$CI_WORKFLOW_NAME", url: "$CI_PIPELINE_URL", run: "CI_PIPELINE_NUMBER",
		request: []string{"CI_COMMIT_PULL_REQUEST"}, target: []string{"CI_COMMIT_TARGET_BRANCH"},
		tag: []string{"CI_COMMIT_TAG"}, branch: []string{"CI_COMMIT_BRANCH"}, primary: []string{"CI_REPO_DEFAULT_BRANCH"},
	},
	{
		name: "Drone", runs: set("DRONE"),
		job: "$DRONE_STAGE_NAME", url: "$DRONE_BUILD_LINK", run: "DRONE_BUILD_NUMBER",
		request: []string{"DRONE_PULL_REQUEST"}, target: []string{"DRONE_TARGET_BRANCH"},
		tag: []string{"DRONE_TAG"}, branch: []string{"DRONE_BRANCH"}, primary: []string{"DRONE_REPO_BRANCH"},
	},
	{
		name: "Bitbucket Pipelines", runs: set("BITBUCKET_BUILD_NUMBER"),
		job: "$BITBUCKET_REPO_FULL_NAME", url: "https://bitbucket.org/$BITBUCKET_REPO_FULL_NAME/pipelines/results/$BITBUCKET_BUILD_NUMBER", run: "BITBUCKET_BUILD_NUMBER",
		request: []string{"BITBUCKET_PR_ID"}, target: []string{"BITBUCKET_PR_DESTINATION_BRANCH"},
		tag: []string{"BITBUCKET_TAG"}, branch: []string{"BITBUCKET_BRANCH"},
	},
	{
		name: "Jenkins", runs: set("JENKINS_URL"),
		job: "$JOB_NAME", url: "$BUILD_URL", run: "BUILD_NUMBER",
		request: []string{"CHANGE_ID", "ghprbPullId", "gitlabMergeRequestIid"},
		target:  []string{"CHANGE_TARGET", "ghprbTargetBranch", "gitlabTargetBranch"}, fork: set("CHANGE_FORK"),
		tag: []string{"TAG_NAME"}, branch: []string{"BRANCH_NAME", "GIT_BRANCH"}, remote: "origin/",
	},
}
