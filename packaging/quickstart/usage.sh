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
             node, a failover, and the way back; nothing is left behind
  build      compile the product into build/
  test       everything that this machine can test; says what was skipped and why
  bench      compare speed with similar programs, side by side; writes docs/performance
  package    build the .deb and .rpm packages into build-packages/
  help       this text; ./quickstart VERB --help has the options of a verb

Options of all verbs:
  --no-install   install nothing: say which packages are missing, and stop

Each verb first installs the packages that it needs and that are missing (as root, or through
sudo). It says which, how many, and how large they are.
TEXT
}

usage_build() {
    cat <<'TEXT'
Usage: ./quickstart build [--no-install]

Compiles the product into build/: about three minutes on two processors, then only what changed.
TEXT
}

usage_demo() {
    cat <<'TEXT'
Usage: ./quickstart demo [options]

Plays on this machine what happens to two: a filesystem on a mirrored volume, a crash of one node,
a failover, and the way back. Compiles first: about five minutes on a new machine with two
processors, eleven seconds from then on. Needs root, for the filesystem. Leaves nothing behind but
the packages and build/.

  --keep-logs    keep the log files and say where they are
  --fuse         use nbdfuse and a loop device even where the kernel has nbd
  --no-install   install nothing: say which packages are missing, and stop
TEXT
}

usage_test() {
    cat <<'TEXT'
Usage: ./quickstart test [options]

Runs the tests in stages, two at a time: about half an hour on two processors. What the stages
leave is in build-test/: a log each, and summary.txt.

  --list         list the stages with their budgets
  --all          run the long stages too: sanitizers, clang-tidy, fuzzers, every test in virtual
                 machines, an hour of faults. Takes hours
  --continue     do not repeat the stages that have passed in the last run
  --only STAGE   run this stage; may be given more than once
  -k EXPR        in the stages that use pytest: only tests whose names match
  --no-install   install nothing: say which packages are missing, and stop

Environment:
  QUICKSTART_SLOWNESS   how many times slower this machine is than two current processors
                        (default: 1): by that much later a stage is taken for hung
TEXT
}

usage_package() {
    cat <<'TEXT'
Usage: ./quickstart package [options]

Builds the .deb and .rpm packages into build-packages/: about six minutes on two processors for one
kind, eight for both.

  --deb, --rpm   only this kind
  --revision N   the packages' revision (default: 1)
  --no-install   install nothing: say which packages are missing, and stop

SHA256SUMS and a bill of materials, sbom.cdx.json (CycloneDX), are written beside them.

Environment:
  MIRRORDISK_RELEASE=1          for others to use: fails without the two addresses below
  MIRRORDISK_SECURITY_CONTACT   an address or URL for reports of vulnerabilities, for SECURITY.md
  MIRRORDISK_MAINTAINER         "NAME <ADDRESS>" of the packages
  MIRRORDISK_URL                the rpm's URL (optional)
  SOURCE_DATE_EPOCH             the time in the packages (default: that of the newest commit)
TEXT
}

usage_bench() {
    cat <<'TEXT'
Usage: ./quickstart bench [options]

Measures this project and what it is compared with, side by side: half an hour; docs/performance is
made by it. The most important options; tests/bench/bench --help has them all:

  --quick            the most important jobs, short: a few minutes
  --list             list the jobs and the targets
  --json FILE        write the figures there
  --publish          write docs/performance: tables, plots, the figures as JSON
  --jobs, --targets  NAME,…: these alone
  --rounds N         how often each is measured (5)
  --scale            also what size and number cost: 16 TiB, 100 volumes; eight minutes more
  --guests           afterwards also in two virtual machines, beside DRBD and md; a quarter of an hour more
  --no-install       install nothing: say which packages are missing, and stop
TEXT
}
