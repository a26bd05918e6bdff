// Tables of which a request looks up a few rows: once they were searched, they are no memory of this process.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "harness.h"
#include "loader_testing.h"
#include "tiny_models.h"

using namespace lrengine;
using namespace loader_testing;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// [kRows, kCols] float32: 33 MB, which end inside a part of the search and inside a page.
constexpr std::int64_t kRows = 87'001, kCols = 95;
constexpr std::size_t kCount = static_cast<std::size_t>(kRows * kCols), kBytes = kCount * sizeof(float);
// What may be mapped without having been asked for: neighbours of pages at a table's ends and where a row is looked up,
// up to 2 MiB each, the program itself, and what the kernel has not counted yet.
constexpr std::size_t kSlack = 6 * kMiB;

// Bytes of mapped files that are this process's memory, whatever of them is in the page cache.
std::size_t mapped() {
    std::size_t size = 0, resident = 0, of_files = 0;
    std::ifstream("/proc/self/statm") >> size >> resident >> of_files;
    return of_files * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// Bytes of files that `body` maps and leaves in memory.
template <typename Body>
std::size_t mapped_by(const Body& body) {
    const std::size_t before = mapped();
    body();
    const std::size_t after = mapped();
    return after > before ? after - before : 0;
}

// The table, after something else: it begins inside a page, and inside what the kernel maps at once.
std::vector<Tensor> table_of(const std::vector<float>& values) {
    return {float_tensor("before", {300'001}, std::vector<float>(300'001, 1.0f)),
            float_tensor("table", {kRows, kCols}, values)};
}

std::vector<float> numbers() {
    std::vector<float> values(kCount);
    for (std::size_t i = 0; i < kCount; ++i) values[i] = static_cast<float>(i % 1021) + 0.5f;
    return values;
}

bool holds(const Weight& weight, const std::vector<float>& values) {
    return std::equal(values.begin(), values.end(), static_cast<const float*>(weight.data));
}

// A model with an encoder whose word embeddings are 29 MB.
constexpr tiny::Sizes kManyWords{.vocab = 300'000};
constexpr std::size_t kWords = static_cast<std::size_t>(kManyWords.vocab * kManyWords.width) * sizeof(float);

std::size_t mapped_by_opening(const tiny::Directory& directory) {
    std::unique_ptr<Model> model;
    return mapped_by([&] {
        model = tiny::load(directory);
        model->weight_search().start();
        model->weight_search().finish();
        const tiny::Ids neighbours{5, 6, 7};
        const std::vector<std::span<const std::int32_t>> sources{neighbours};
        model->encode(sources, EncodeOutput::kLast);
    });
}

}  // namespace

TEST(a_table_that_is_looked_up_in_is_given_back) {
    const std::vector<float> values = numbers();
    for (const bool started : {true, false}) {
        Opened opened(table_of(values));
        const Weight table = opened.loader().embeddings("table", kRows, kCols);
        CHECK(opened.in_mapping("table", table.data));
        const std::size_t left = mapped_by([&] {
            if (started) opened.search.start();
            opened.search.finish();
        });
        CHECK(left <= kSlack);
        CHECK(holds(table, values));  // as before, from the page cache or the disk
    }
}

TEST(several_threads_that_search_give_a_table_back) {
    Opened opened(table_of(numbers()));
    opened.loader().embeddings("table", kRows, kCols);
    const std::size_t left = mapped_by([&] {
        opened.search.start();
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) threads.emplace_back([&] { opened.search.finish(); });
        for (std::thread& thread : threads) thread.join();
    });
    CHECK(left <= kSlack + kMiB);  // the threads' own
}

// An output projection that is tied to it is read whole at every step.
TEST(a_table_that_is_a_product_too_stays) {
    const std::vector<float> values = numbers();
    for (const bool first : {true, false}) {
        Opened opened(table_of(values));
        WeightLoader loader = opened.loader();
        const void* product = first ? loader.matrix("table", kRows, kCols).data : nullptr;
        const Weight table = loader.embeddings("table", kRows, kCols);
        if (!first) product = loader.matrix("table", kRows, kCols).data;
        CHECK(table.data == product);
        const std::size_t left = mapped_by([&] {
            opened.search.start();
            opened.search.finish();
        });
        CHECK(left >= kBytes - kSlack);
    }
}

TEST(a_table_of_another_type_is_converted_once_and_not_mapped) {
    Opened opened(table_of(numbers()));
    WeightLoader loader = opened.loader(DType::kInt8);
    Weight table;
    const std::size_t left = mapped_by([&] {
        table = loader.embeddings("table", kRows, kCols);
        opened.search.finish();
    });
    CHECK(left <= kSlack);
    CHECK(!opened.in_mapping("table", table.data) && table.dtype == DType::kInt8);
    CHECK(loader.matrix("table", kRows, kCols).data == table.data);
}

TEST(what_no_weight_can_be_is_found_in_a_table_that_is_given_back) {
    std::vector<float> values = numbers();
    for (const std::size_t place : {std::size_t{0}, kMiB - 1, kMiB, kCount / 2, kCount - 1}) {
        values[place] = kNan;
        Opened opened(table_of(values));
        opened.loader().embeddings("table", kRows, kCols);
        opened.search.start();
        for (int call = 0; call < 2; ++call) {
            CHECK_ERROR(opened.search.finish(), ErrorCode::kModelFile,
                        "model.safetensors: table: found NaN or Inf, expected finite numbers");
        }
        values[place] = 1.0f;
    }
}

// Which searches anew and holds no more of the table than its parent.
TEST(a_forked_child_gives_a_table_back) {
    Opened opened(table_of(numbers()));
    opened.loader().embeddings("table", kRows, kCols);
    opened.search.start();
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);  // a child that hangs is a failure
        const std::size_t left = mapped_by([&] { opened.search.finish(); });
        ::_exit(left <= kSlack ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    opened.search.finish();
}

TEST(a_classifier_holds_no_word_embeddings_but_those_of_requests) {
    tiny::Directory directory(kManyWords);
    directory.vector("mixer.layer_logits", kManyWords.layers);
    directory.vector("mixer.temperature", 1);
    tiny::write_classifier(directory, R"("mixer": {"type": "global"})");
    CHECK(mapped_by_opening(directory) <= kSlack);
}

TEST(a_fusion_holds_no_word_embeddings_but_those_of_requests) {
    tiny::Directory directory(kManyWords);
    tiny::write_fusion(directory);
    CHECK(mapped_by_opening(directory) <= kSlack);
}

TEST(a_swcm_holds_its_word_embeddings_where_they_are_its_output_too) {
    tiny::Directory tied(kManyWords), own(kManyWords);
    tiny::write_swcm(tied);
    tiny::write_swcm(own, {.tied_output = false});
    CHECK(mapped_by_opening(tied) >= kWords - kSlack);
    const std::size_t output_alone = mapped_by_opening(own);
    CHECK(output_alone >= kWords - kSlack && output_alone <= kWords + kSlack);
}
