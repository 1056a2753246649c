# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154 # results and QUICKSTART_EXPRESSION are set in stage and test_run.sh
# The end-to-end tests: several at once, since they wait more than they compute; then, one after the
# other, those that need the machine for themselves (marked `alone`). All through nbdkit's door, those
# marked `door` also through the express door. Variants of others, marked `rare`, are run by --all, in
# e2e-express-rest.

stage_e2e() { e2e_tests "$1" nbdkit build 'not rare'; }
stage_e2e_express() { e2e_tests "$1" express build door; }
stage_e2e_express_rest() { e2e_tests "$1" express build 'not door'; }
stage_e2e_asan() { e2e_tests "$1" nbdkit build-asan 'not rare'; }
stage_e2e_express_asan() { e2e_tests "$1" express build-asan door; }
stage_e2e_tsan() { e2e_tests "$1" nbdkit build-tsan 'not rare'; }
stage_e2e_express_tsan() { e2e_tests "$1" express build-tsan door; }

e2e_tests() { # STAGE DOOR BUILD-DIR MARKER-EXPRESSION
    local build=$3 build_function expression=${4:+($4) and }
    local -a many=()
    build_function=build_${build#build-}
    check_build "$1" "${build_function/build_build/build_main}" || return 0
    if /usr/bin/python3 -c 'import xdist' 2>/dev/null; then
        many=(-n "${QUICKSTART_E2E_WORKERS:-$(e2e_workers "$build")}" --dist loadgroup)
    fi
    export MIRRORDISK_BUILD=$PWD/$build MIRRORDISK_TEST_DOOR=$2
    run_pytest "$1" tests/e2e -m "${expression}not alone" "${many[@]}"
    run_pytest "$1" tests/e2e -m "${expression}alone"
}

# Most of a test is waiting, so two of them keep a processor busy; under a sanitizer one does.
e2e_workers() { # BUILD-DIR
    case $1 in
        build) echo $(($(nproc) * 2)) ;;
        *) nproc ;;
    esac
}
