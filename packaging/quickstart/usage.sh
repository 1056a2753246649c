# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# What `./quickstart help` and `./quickstart VERB --help` print.

usage() { # [VERB]
    case ${1:-} in
        demo | build | test | package | bench) "usage_$1" ;;
        "" | help | -h | --help) usage_all ;;
        *) die_usage "there is no verb '$1'" ;;
    esac
}

usage_all() {
    cat <<'TEXT'
Usage: ./quickstart VERB [options]

  demo       two nodes on this machine, a filesystem on a mirrored volume, a crash of one
             node, a failover, and the way back; cleans up afterwards
  build      compile the product into build/
  test       all tests that can run here; skipped ones are listed with the reason
  bench      compare speed with similar programs, side by side; writes docs/performance
  package    build the .deb and .rpm packages into build-packages/
  help       this text; ./quickstart VERB --help has the options of a verb

Options of all verbs:
  --no-install   install nothing: list the missing packages and stop

Each verb first installs the packages that it needs and that are missing (as root, or through
sudo). It lists them, with their number and size.
TEXT
}

usage_build() {
    cat <<'TEXT'
Usage: ./quickstart build [--no-install]

Compiles the product into build/: about three minutes on two processors; later only what has changed.
TEXT
}

usage_demo() {
    cat <<'TEXT'
Usage: ./quickstart demo [options]

Shows on this machine what happens on two: a filesystem on a mirrored volume, a crash of one node,
a failover, and the way back. Compiles first: about five minutes on a new machine with two
processors, eleven seconds from then on. Needs root, to mount the filesystem. Only the packages and
build/ remain afterwards.

  --keep-logs    keep the log files and show where they are
  --fuse         use nbdfuse and a loop device even if the kernel has nbd
  --no-install   install nothing: list the missing packages and stop
TEXT
}

usage_test() {
    cat <<'TEXT'
Usage: ./quickstart test [options]

Runs the tests in stages, two at a time: about half an hour on two processors. Each stage leaves a
log in build-test/; the summary is in summary.txt.

  --list         list the stages with their budgets
  --all          run the long stages too: sanitizers, clang-tidy, fuzzers, every test in virtual
                 machines, an hour of faults. Takes hours
  --continue     do not repeat the stages that have passed in the last run
  --only STAGE   run this stage; may be given more than once
  -k EXPR        in the stages that use pytest: only tests whose names match
  --no-install   install nothing: list the missing packages and stop

Environment:
  QUICKSTART_SLOWNESS   how many times slower this machine is than two current processors
                        (default: 1): a stage is taken for hung that much later
TEXT
}

usage_package() {
    cat <<'TEXT'
Usage: ./quickstart package [options]

Builds the .deb and .rpm packages into build-packages/: about six minutes on two processors for one
kind, eight for both.

  --deb, --rpm   only this kind
  --revision N   the packages' revision (default: 1)
  --no-install   install nothing: list the missing packages and stop

SHA256SUMS and a bill of materials, sbom.cdx.json (CycloneDX), are written beside them.

Environment:
  MIRRORDISK_RELEASE=1          packages for release: fails without the two addresses below
  MIRRORDISK_SECURITY_CONTACT   an address or URL for reports of vulnerabilities, for SECURITY.md
  MIRRORDISK_MAINTAINER         "NAME <ADDRESS>" of the packages
  MIRRORDISK_URL                the rpm's URL (optional)
  SOURCE_DATE_EPOCH             the time in the packages (default: that of the newest commit)
TEXT
}

usage_bench() {
    cat <<'TEXT'
Usage: ./quickstart bench [options]

Measures this project and similar programs, side by side: half an hour. It makes docs/performance.
The most important options; tests/bench/bench --help has them all:

  --quick            the most important jobs, short: a few minutes
  --list             list the jobs and the targets
  --json FILE        write the figures there
  --publish          write docs/performance: tables, plots, the figures as JSON
  --jobs, --targets  NAME,…: only these
  --rounds N         how often each is measured (5)
  --scale            also the cost of size and number: 16 TiB, 100 volumes; eight minutes more
  --guests           afterwards also in two virtual machines, beside DRBD and md; a quarter of an hour more
  --no-install       install nothing: say which packages are missing, and stop
TEXT
}
