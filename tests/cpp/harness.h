// A test is a function registered by TEST(name); CHECK* report file and line and go on, REQUIRE* stop the test.
// The runner takes substrings of names to run and prints "N passed, N failed" last.
#pragma once

#include <cmath>
#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace harness {

struct Case {
    std::string name;
    std::function<void()> body;
};

inline std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

struct Registrar {
    Registrar(std::string name, std::function<void()> body) { cases().push_back({std::move(name), std::move(body)}); }
};

inline void report(const char* file, int line, const std::string& what) {
    ++failures();
    std::cerr << file << ':' << line << ": " << what << '\n';
}

struct Abandoned : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Runs the chosen cases; returns main()'s status.
inline int run(int argc, char** argv) {
    int passed = 0, failed = 0;
    for (const Case& test : cases()) {
        bool chosen = argc < 2;
        for (int i = 1; i < argc; ++i) chosen = chosen || test.name.find(argv[i]) != std::string::npos;
        if (!chosen) continue;
        failures() = 0;
        try {
            test.body();
        } catch (const Abandoned&) {
        } catch (const std::exception& error) {
            report(test.name.c_str(), 0, std::string("unexpected exception: ") + error.what());
        }
        (failures() == 0 ? passed : failed)++;
        if (failures() != 0) std::cerr << "FAILED " << test.name << '\n';
    }
    std::cout << passed << " passed, " << failed << " failed\n";
    return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace harness

#define TEST(name)                                                        \
    static void test_##name();                                            \
    static const harness::Registrar registrar_##name(#name, test_##name); \
    static void test_##name()

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) harness::report(__FILE__, __LINE__, "CHECK(" #condition ")"); \
    } while (false)

#define CHECK_EQUAL(left, right)                                          \
    do {                                                                  \
        const auto l_ = (left);                                           \
        const auto r_ = (right);                                          \
        if (!(l_ == r_)) {                                                \
            std::ostringstream text_;                                     \
            text_ << #left " == " #right ": " << l_ << " against " << r_; \
            harness::report(__FILE__, __LINE__, text_.str());             \
        }                                                                 \
    } while (false)

#define REQUIRE(condition)                                                  \
    do {                                                                    \
        if (!(condition)) {                                                 \
            harness::report(__FILE__, __LINE__, "REQUIRE(" #condition ")"); \
            throw harness::Abandoned("require");                            \
        }                                                                   \
    } while (false)

// The statement must throw lrengine::Error with this code and a message that contains `fragment`.
#define CHECK_ERROR(statement, expected_code, fragment)                                                             \
    do {                                                                                                            \
        bool thrown_ = false;                                                                                       \
        try {                                                                                                       \
            statement;                                                                                              \
        } catch (const lrengine::Error& error_) {                                                                   \
            thrown_ = true;                                                                                         \
            if (error_.code() != (expected_code) || std::string(error_.what()).find(fragment) == std::string::npos) \
                harness::report(__FILE__, __LINE__, std::string("other error: ") + error_.what());                  \
        }                                                                                                           \
        if (!thrown_) harness::report(__FILE__, __LINE__, "no error from " #statement);                             \
    } while (false)
