// SPDX-License-Identifier: BSD-3-Clause
// The unit tests' main(): doctest's, but a filter that chooses no test case is a failure. Otherwise
// a subject whose file was renamed would pass from then on, without a test.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdlib>
#include <iostream>
#include <sys/stat.h>

#include <doctest/doctest.h>

namespace {

unsigned chosen_cases = 0;

struct CountCases final : doctest::IReporter {
    explicit CountCases(const doctest::ContextOptions& /*options*/) {}
    void test_run_end(const doctest::TestRunStats& stats) override {
        chosen_cases = stats.numTestCasesPassingFilters;
    }
    void report_query(const doctest::QueryData& /*data*/) override {}
    void test_run_start() override {}
    void test_case_start(const doctest::TestCaseData& /*data*/) override {}
    void test_case_reenter(const doctest::TestCaseData& /*data*/) override {}
    void test_case_end(const doctest::CurrentTestCaseStats& /*stats*/) override {}
    void test_case_exception(const doctest::TestCaseException& /*error*/) override {}
    void subcase_start(const doctest::SubcaseSignature& /*signature*/) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData& /*data*/) override {}
    void log_message(const doctest::MessageData& /*data*/) override {}
    void test_case_skipped(const doctest::TestCaseData& /*data*/) override {}
};

}  // namespace

REGISTER_LISTENER("count-cases", 1, CountCases);

int main(int argc, char** argv) {
    ::umask(022);  // what others can write would be refused
    doctest::Context context(argc, argv);
    const int outcome = context.run();
    if (context.shouldExit()) {  // it has answered a question: --help, --list-test-cases
        return outcome;
    }
    if (chosen_cases == 0) {
        std::cerr << "unit_tests: no test case was chosen; --list-test-cases "
                     "lists them\n";
        return EXIT_FAILURE;
    }
    return outcome;
}
