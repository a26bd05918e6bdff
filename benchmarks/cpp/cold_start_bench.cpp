// Process start to first token: cold_start_bench MODEL TEXT [runs=21] [threads=0]
// Each run starts this program anew, which opens the model, streams an answer to TEXT and writes down when it was
// where; files are in the page cache. Prints medians, and the spread of the whole, in milliseconds.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "lrengine/lrengine.hpp"

extern char** environ;

namespace {

// Nanoseconds of the machine's steady clock, the same in every process.
std::int64_t now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

using Times = std::array<std::int64_t, 3>;  // main() began, the model was open, the first token came

int run_child(const char* model, const char* text, int threads) {
    Times times{now(), 0, 0};
    lrengine::EngineOptions options;
    options.device = "cpu";
    options.threads = threads;
    const lrengine::Engine engine(model, options);
    times[1] = now();
    lrengine::GenerateOptions first;
    first.min_new_tokens = 2;  // no end before there was a token
    engine.stream(
        text,
        [&](const lrengine::Token&) {
            times[2] = now();
            return false;
        },
        first);
    return ::write(STDOUT_FILENO, &times, sizeof(times)) == sizeof(times) ? 0 : 1;
}

// Milliseconds from its start to each of the child's times.
std::array<double, 3> start(const std::vector<char*>& arguments) {
    int ends[2];
    if (::pipe(ends) != 0) std::exit(1);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    pid_t child = 0;
    const std::int64_t began = now();
    if (::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments.data(), environ) != 0) std::exit(1);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    Times times{};
    const bool complete = ::read(ends[0], &times, sizeof(times)) == sizeof(times);
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (!complete || status != 0) {
        std::fprintf(stderr, "the started program failed\n");
        std::exit(1);
    }
    std::array<double, 3> result{};
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = static_cast<double>(times[i] - began) * 1e-6;
    return result;
}

double middle(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s MODEL TEXT [runs] [threads]\n", argv[0]);
        return 2;
    }
    const int runs = argc > 3 ? std::atoi(argv[3]) : 21;
    if (runs == 0) return run_child(argv[1], argv[2], std::atoi(argv[4]));
    std::string once = "0", threads = argc > 4 ? argv[4] : "0";
    const std::vector<char*> arguments = {argv[0], argv[1], argv[2], once.data(), threads.data(), nullptr};
    start(arguments);  // reads the files into the page cache
    std::vector<double> main_began, opened, first_token;
    for (int run = 0; run < runs; ++run) {
        const auto [began, open, token] = start(arguments);
        main_began.push_back(began);
        opened.push_back(open - began);
        first_token.push_back(token);
    }
    double load = 0.0;
    ::getloadavg(&load, 1);
    const auto [least, most] = std::minmax_element(first_token.begin(), first_token.end());
    std::printf(
        "start to main() %.1f ms, opening %.1f ms; start to first token: median %.1f ms, %.1f to %.1f, %d runs, "
        "load average %.1f\n",
        middle(main_began), middle(opened), middle(first_token), *least, *most, runs, load);
    return 0;
} catch (const lrengine::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
