// lrengine for C++17 and later: a header over the C interface (lrengine.h), so that it works with any compiler and
// standard library, whatever the engine was built with.
//
//     lrengine::Engine engine("model", {.device = "cuda"});            // C++17: EngineOptions o; o.device = "cuda";
//     for (const auto& answer : engine.generate({"text", "another"}, {.num_beams = 4})) use(answer.text);
//
// Two forms of every call. With exceptions: failures are lrengine::Error, and an exception of your callback stops that
// request and reaches you. Without: try_...() gives a Result, and is all there is under -fno-exceptions; where there
// are exceptions, it lets those of your callbacks and std::bad_alloc of its own copies through. Objects own what they
// hold; engines, sessions and cancellations can be moved. Threads, ownership, units and statuses: lrengine.h.
#pragma once

#include <cassert>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "lrengine/lrengine.h"

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define LRENGINE_EXCEPTIONS 1
#include <exception>
#include <stdexcept>
#else
#define LRENGINE_EXCEPTIONS 0
#endif

namespace lrengine {
// Of this header's own: a static library has other classes of these names inside. And one for each of the two forms,
// whose classes differ: a program may have files of both.
#if LRENGINE_EXCEPTIONS
inline namespace abi1 {
#else
inline namespace abi1_without_exceptions {
#endif

enum class Status : std::int32_t {
    kOk = LRENGINE_OK,
    kInvalidArgument = LRENGINE_INVALID_ARGUMENT,
    kModelFile = LRENGINE_MODEL_FILE,
    kUnsupported = LRENGINE_UNSUPPORTED,
    kOutOfMemory = LRENGINE_OUT_OF_MEMORY,
    kDevice = LRENGINE_DEVICE,
    kCancelled = LRENGINE_CANCELLED,
    kDeadline = LRENGINE_DEADLINE,
    kCallback = LRENGINE_CALLBACK,
    kInternal = LRENGINE_INTERNAL
};

// Of the library that is loaded: "MAJOR.MINOR.PATCH".
inline std::string_view version() noexcept { return lrengine_version(); }
// Whether that library has the interface which this header was written for. A shared library whose soname fits does.
inline bool is_compatible() noexcept { return lrengine_abi_version() == LRENGINE_ABI_VERSION; }

#if LRENGINE_EXCEPTIONS
class Error : public std::runtime_error {
public:
    Error(Status status, const std::string& message) : std::runtime_error(message), status_(status) {}
    Status status() const noexcept { return status_; }

private:
    Status status_;
};
#endif

// A value, or why there is none. A request that was ended early (kCancelled, kDeadline, kCallback) has both.
template <typename T>
class Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(Status status, std::string message) : status_(status), message_(std::move(message)) {}
    Result(T value, Status status, std::string message)
        : value_(std::move(value)), status_(status), message_(std::move(message)) {}

    bool ok() const { return status_ == Status::kOk; }
    explicit operator bool() const { return ok(); }
    Status status() const { return status_; }
    const std::string& message() const { return message_; }  // "" when ok

    bool has_value() const { return value_.has_value(); }
    // There has to be one.
    T& operator*() { return assert(value_), *value_; }
    const T& operator*() const { return assert(value_), *value_; }
    T* operator->() { return &**this; }
    const T* operator->() const { return &**this; }

#if LRENGINE_EXCEPTIONS
    // The value, or throws Error.
    T take() && {
        if (!ok()) throw Error(status_, message_);
        return std::move(*value_);
    }
#endif

private:
    std::optional<T> value_;
    Status status_ = Status::kOk;
    std::string message_;
};

// Elements in a row that somebody else owns. (std::span came with C++20.)
template <typename T>
class Span {
public:
    using value_type = std::remove_cv_t<T>;

    constexpr Span() = default;
    constexpr Span(T* data, std::size_t size) : data_(data), size_(size) {}
    template <typename Container, typename = decltype(static_cast<T*>(std::declval<const Container&>().data()))>
    constexpr Span(const Container& container) : data_(container.data()), size_(container.size()) {}

    constexpr T* data() const { return data_; }
    constexpr std::size_t size() const { return size_; }
    constexpr bool empty() const { return size_ == 0; }
    constexpr T* begin() const { return data_; }
    constexpr T* end() const { return data_ + size_; }
    constexpr T& operator[](std::size_t index) const { return data_[index]; }

private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

// Text or tokens; owns either.
class Piece {
public:
    Piece() = default;
    Piece(const char* text) : is_text_(true), text_(text) {}
    Piece(std::string text) : is_text_(true), text_(std::move(text)) {}
    Piece(std::string_view text) : is_text_(true), text_(text) {}
    Piece(std::vector<std::int32_t> ids) : ids_(std::move(ids)) {}
    Piece(Span<const std::int32_t> ids) : ids_(ids.begin(), ids.end()) {}

    lrengine_piece raw() const {
        lrengine_piece piece = LRENGINE_PIECE_INIT;
        if (is_text_) {
            piece.text = text_.data();
            piece.text_bytes = text_.size();
        } else {
            piece.ids = ids_.data();
            piece.id_count = ids_.size();
        }
        return piece;
    }

private:
    bool is_text_ = false;  // not an optional string: copying one, gcc 12 warns that it may be uninitialised
    std::string text_;
    std::vector<std::int32_t> ids_;
};

// What a request reads. Implicitly its source alone.
struct Input {
    Input() = default;
    Input(const char* text) : source(text) {}
    Input(std::string text) : source(std::move(text)) {}
    Input(std::string_view text) : source(text) {}
    Input(std::vector<std::int32_t> ids) : source(std::move(ids)) {}
    Input(Piece source_piece, Piece prompt_piece = {}, Piece target_piece = {})
        : source(std::move(source_piece)), prompt(std::move(prompt_piece)), target(std::move(target_piece)) {}

    Piece source;
    Piece prompt;  // layer_fusion only
    Piece target;  // generate: what the answer starts with; score: what is scored
};

struct EngineOptions {
    std::string device = "auto";  // "auto", "cpu", "cuda", "cuda:INDEX"
    std::string dtype = {};       // "": as the matrices are stored
    std::int32_t threads = 0;     // 0: as many as the process may use
    std::function<void(std::string_view)> log = {};
};

struct EngineInfo {
    std::string device, dtype, model_type;
    std::int64_t source_vocabulary = 0, max_source_length = 0;  // length 0: no limit
    std::int64_t target_vocabulary = 0, max_target_length = 0;  // vocabulary 0: the model does not generate
    std::int64_t encoder_layers = 0, encoder_width = 0;
    std::vector<std::string> labels;  // of a classifier
    std::vector<std::int32_t> end_tokens;
    bool reads_source_text = false, writes_text = false;
};

struct MemoryReport {
    std::uint64_t weight_bytes = 0, request_bytes = 0, peak_request_bytes = 0;
};

// A flag that ends requests early, from any thread.
class Cancellation {
public:
    Cancellation() { lrengine_cancellation_create(&flag_); }
    ~Cancellation() { lrengine_cancellation_free(flag_); }
    // Moving keeps the flag that calls were given: a request made after it still ends them. What is assigned over must
    // not be in use by a call. Limits point at the object, not at its flag.
    Cancellation(Cancellation&& other) noexcept : flag_(std::exchange(other.flag_, nullptr)) {}
    Cancellation& operator=(Cancellation&& other) noexcept {
        if (this != &other) {
            lrengine_cancellation_free(flag_);
            flag_ = std::exchange(other.flag_, nullptr);
        }
        return *this;
    }

    // Whether there is a flag: not after being moved from, or where there was no memory for one. Without it nothing is
    // ever cancelled.
    explicit operator bool() const { return flag_ != nullptr; }
    void request() { lrengine_cancellation_request(flag_); }
    const lrengine_cancellation* raw() const { return flag_; }

private:
    lrengine_cancellation* flag_ = nullptr;
};

struct Limits {
    std::chrono::microseconds deadline{0};  // from the call on; 0: none
    const Cancellation* cancellation = nullptr;
};

enum class FinishReason : std::int32_t {
    kStop = LRENGINE_FINISH_STOP,
    kLength = LRENGINE_FINISH_LENGTH,
    kCancelled = LRENGINE_FINISH_CANCELLED
};

enum class EarlyStopping : std::int32_t {
    kHeuristic = LRENGINE_STOP_HEURISTIC,
    kFirst = LRENGINE_STOP_FIRST,
    kNever = LRENGINE_STOP_NEVER
};

enum class Side : std::int32_t { kSource = LRENGINE_SOURCE, kTarget = LRENGINE_TARGET };

enum class EncodeOutput : std::int32_t {
    kLast = LRENGINE_ENCODE_LAST,
    kFused = LRENGINE_ENCODE_FUSED,
    kAll = LRENGINE_ENCODE_ALL,
    kWeights = LRENGINE_ENCODE_WEIGHTS
};

// A token as it is generated; `text` adds up to the answer's and lives until the callback returns.
struct Token {
    std::size_t input = 0, sequence = 0;
    std::int32_t token = 0;
    float log_prob = 0.0f;
    std::string_view text;
};

// Names and meanings are those of transformers' generate().
struct GenerateOptions {
    std::int64_t max_new_tokens = 256;
    std::int64_t min_new_tokens = 0;
    std::int64_t num_beams = 1;
    std::int64_t num_return_sequences = 1;
    double length_penalty = 1.0;
    EarlyStopping early_stopping = EarlyStopping::kHeuristic;
    double repetition_penalty = 1.0;
    std::int64_t no_repeat_ngram_size = 0;
    bool do_sample = false;
    double temperature = 1.0;
    std::int64_t top_k = 0;
    double top_p = 1.0;
    std::optional<std::uint64_t> seed = {};
    std::vector<std::int32_t> suppress_tokens = {};
    std::vector<std::string> stop = {};
    std::function<bool(const Token&)> on_token = {};  // false ends the request; not with beams
};

struct Generation {
    std::string text;  // "" when the engine writes no text
    std::vector<std::int32_t> tokens;
    std::vector<float> log_probs;
    double score = 0.0;
    FinishReason finish_reason = FinishReason::kStop;
};

struct Classification {
    std::string label;                                  // the likeliest
    float probability = 0.0f;                           // its
    std::vector<std::pair<std::string, float>> scores;  // every label's probability
};

struct Score {
    double log_prob = 0.0;
    std::vector<float> token_log_probs;
};

struct Array {
    std::vector<float> data;
    std::vector<std::int64_t> shape;
};

namespace detail {

inline Status last_status(lrengine_status status) { return static_cast<Status>(status); }

template <typename T>
Result<T> failure(lrengine_status status) {
    return {last_status(status), lrengine_last_error()};
}

struct Close {
    void operator()(lrengine_engine* engine) const { lrengine_close(engine); }
    void operator()(lrengine_session* session) const { lrengine_session_free(session); }
    void operator()(lrengine_generations* generations) const { lrengine_generations_free(generations); }
    void operator()(lrengine_arrays* arrays) const { lrengine_arrays_free(arrays); }
};
template <typename T>
using Handle = std::unique_ptr<T, Close>;

// A callback of the caller's, behind a C function: what it throws is kept until the C call is over.
class Hook {
public:
    explicit Hook(std::function<bool(const Token&)> call) : call_(std::move(call)) {}

    explicit operator bool() const { return static_cast<bool>(call_); }

    static std::int32_t run(void* user, const lrengine_token* token) {
        Hook& hook = *static_cast<Hook*>(user);
        Token heard{token->input, token->sequence, token->token, token->log_prob, {}};
        if (token->text != nullptr) heard.text = {token->text, token->text_bytes};
#if LRENGINE_EXCEPTIONS
        try {
            return hook.call_(heard) ? 0 : 1;
        } catch (...) {
            hook.thrown_ = std::current_exception();
            return 1;
        }
#else
        return hook.call_(heard) ? 0 : 1;
#endif
    }

    void rethrow() {
#if LRENGINE_EXCEPTIONS
        if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
#endif
    }

private:
    std::function<bool(const Token&)> call_;
#if LRENGINE_EXCEPTIONS
    std::exception_ptr thrown_;
#endif
};

inline std::vector<lrengine_input> raw(Span<const Input> inputs) {
    std::vector<lrengine_input> result;
    for (const Input& input : inputs) {
        lrengine_input one = LRENGINE_INPUT_INIT;
        one.source = input.source.raw();
        one.prompt = input.prompt.raw();
        one.target = input.target.raw();
        result.push_back(one);
    }
    return result;
}

inline lrengine_limits raw(const Limits& limits) {
    lrengine_limits result = LRENGINE_LIMITS_INIT;
    result.deadline_microseconds = limits.deadline.count();
    if (limits.cancellation != nullptr) result.cancellation = limits.cancellation->raw();
    return result;
}

// The stop strings of options, as C takes them: they may hold zeros.
struct StopTexts {
    std::vector<const char*> texts;
    std::vector<std::size_t> bytes;
};

// The C form of options, which points into them and into `stop` and `hook`.
inline lrengine_generate_options raw(const GenerateOptions& options, StopTexts& stop, Hook& hook) {
    lrengine_generate_options result = LRENGINE_GENERATE_OPTIONS_INIT;
    result.max_new_tokens = options.max_new_tokens;
    result.min_new_tokens = options.min_new_tokens;
    result.num_beams = options.num_beams;
    result.num_return_sequences = options.num_return_sequences;
    result.length_penalty = options.length_penalty;
    result.early_stopping = static_cast<lrengine_early_stopping>(options.early_stopping);
    result.repetition_penalty = options.repetition_penalty;
    result.no_repeat_ngram_size = options.no_repeat_ngram_size;
    result.do_sample = options.do_sample ? 1 : 0;
    result.temperature = options.temperature;
    result.top_k = options.top_k;
    result.top_p = options.top_p;
    result.has_seed = options.seed ? 1 : 0;
    result.seed = options.seed.value_or(0);
    result.suppress_tokens = options.suppress_tokens.data();
    result.suppress_token_count = options.suppress_tokens.size();
    for (const std::string& text : options.stop) {
        stop.texts.push_back(text.data());
        stop.bytes.push_back(text.size());
    }
    result.stop = stop.texts.data();
    result.stop_bytes = stop.bytes.data();
    result.stop_count = stop.texts.size();
    if (hook) {
        result.on_token = &Hook::run;
        result.on_token_user = &hook;
    }
    return result;
}

inline std::vector<std::vector<Generation>> read(const lrengine_generations* from) {
    std::vector<std::vector<Generation>> result(lrengine_generations_inputs(from));
    for (std::size_t input = 0; input < result.size(); ++input) {
        for (std::size_t i = 0; i < lrengine_generations_sequences(from, input); ++i) {
            lrengine_generation found = LRENGINE_GENERATION_INIT;
            lrengine_generations_get(from, input, i, &found);
            Generation& to = result[input].emplace_back();
            if (found.text != nullptr) to.text.assign(found.text, found.text_bytes);
            to.tokens.assign(found.tokens, found.tokens + found.token_count);
            to.log_probs.assign(found.log_probs, found.log_probs + found.log_prob_count);
            to.score = found.score;
            to.finish_reason = static_cast<FinishReason>(found.finish_reason);
        }
    }
    return result;
}

inline std::vector<Array> read(const lrengine_arrays* from) {
    std::vector<Array> result(lrengine_arrays_count(from));
    for (std::size_t i = 0; i < result.size(); ++i) {
        lrengine_array found = LRENGINE_ARRAY_INIT;
        lrengine_arrays_get(from, i, &found);
        result[i].data.assign(found.data, found.data + found.size);
        result[i].shape.assign(found.shape, found.shape + found.dimensions);
    }
    return result;
}

}  // namespace detail

using Generations = std::vector<std::vector<Generation>>;  // one list an input, best first

// One request, a token a row at a time. One thread at a time, but for cancel(). Keeps the engine alive.
class Session {
public:
    Session() = default;

    explicit operator bool() const { return static_cast<bool>(handle_); }

    // Whether every row is finished now.
    Result<bool> try_step() {
        std::int32_t done = 0;
        const lrengine_status status = lrengine_session_step(handle_.get(), &done);
        if (hook_) hook_->rethrow();
        if (status != LRENGINE_OK) return detail::failure<bool>(status);
        return done != 0;
    }
    Result<Generations> try_results() const {
        lrengine_generations* found = nullptr;
        const lrengine_status status = lrengine_session_results(handle_.get(), &found);
        if (status != LRENGINE_OK) return detail::failure<Generations>(status);
        const detail::Handle<lrengine_generations> owner(found);
        return detail::read(found);
    }
    void cancel() { lrengine_session_cancel(handle_.get()); }

#if LRENGINE_EXCEPTIONS
    bool step() { return try_step().take(); }
    Generations results() const { return try_results().take(); }
#endif

private:
    friend class Engine;
    std::unique_ptr<detail::Hook> hook_;  // the session calls it: it must not move
    detail::Handle<lrengine_session> handle_;
};

// A model directory in memory. Any number of threads may use one engine.
class Engine {
public:
    // Holds nothing: to be assigned to.
    Engine() = default;

    static Result<Engine> try_open(const std::string& directory, const EngineOptions& options = {}) {
        lrengine_engine_options raw = LRENGINE_ENGINE_OPTIONS_INIT;
        Log log{options.log, {}};
        raw.device = options.device.c_str();
        raw.dtype = options.dtype.empty() ? nullptr : options.dtype.c_str();
        raw.threads = options.threads;
        if (options.log) {
            raw.log = &Log::run;
            raw.log_user = &log;
        }
        if (directory.find('\0') != std::string::npos) {
            return {Status::kModelFile, "directory: found a name with a zero in it, expected a model directory"};
        }
        lrengine_engine* opened = nullptr;
        const lrengine_status status = lrengine_open(directory.c_str(), &raw, &opened);
        Engine engine;
        engine.handle_.reset(opened);
        log.rethrow();
        if (status != LRENGINE_OK) return detail::failure<Engine>(status);
        return Result<Engine>(std::move(engine));
    }

    explicit operator bool() const { return static_cast<bool>(handle_); }
    // For what only the C interface has; still this object's.
    const lrengine_engine* raw() const { return handle_.get(); }

    // Waits until all weights were searched for NaN and Inf, as the first request would: true, or kModelFile.
    Result<bool> try_check_weights(const Limits& limits = {}) const {
        const lrengine_limits ends = detail::raw(limits);
        const lrengine_status status = lrengine_check_weights(raw(), &ends);
        if (status != LRENGINE_OK) return detail::failure<bool>(status);
        return true;
    }

    Result<EngineInfo> try_info() const {
        lrengine_engine_info found = LRENGINE_ENGINE_INFO_INIT;
        const lrengine_status status = lrengine_get_info(raw(), &found);
        if (status != LRENGINE_OK) return detail::failure<EngineInfo>(status);
        EngineInfo info;
        info.device = found.device;
        info.dtype = found.dtype;
        info.model_type = found.model_type;
        info.source_vocabulary = found.source_vocabulary;
        info.max_source_length = found.max_source_length;
        info.target_vocabulary = found.target_vocabulary;
        info.max_target_length = found.max_target_length;
        info.encoder_layers = found.encoder_layers;
        info.encoder_width = found.encoder_width;
        for (std::size_t i = 0; i < found.labels; ++i) info.labels.emplace_back(lrengine_label(raw(), i));
        info.end_tokens.assign(found.end_token_ids, found.end_token_ids + found.end_tokens);
        info.reads_source_text = found.reads_source_text != 0;
        info.writes_text = found.writes_text != 0;
        return info;
    }

    Result<MemoryReport> try_memory() const {
        lrengine_memory found = LRENGINE_MEMORY_INIT;
        const lrengine_status status = lrengine_get_memory(raw(), &found);
        if (status != LRENGINE_OK) return detail::failure<MemoryReport>(status);
        return MemoryReport{found.weight_bytes, found.request_bytes, found.peak_request_bytes};
    }

    // All answers of every input.
    Result<Generations> try_generate_all(Span<const Input> inputs, const GenerateOptions& options = {},
                                         const Limits& limits = {}) const {
        detail::StopTexts stop;
        detail::Hook hook(options.on_token);
        const lrengine_generate_options typed = detail::raw(options, stop, hook);
        const lrengine_limits ends = detail::raw(limits);
        const std::vector<lrengine_input> rows = detail::raw(inputs);
        lrengine_generations* found = nullptr;
        const lrengine_status status = lrengine_generate(raw(), rows.data(), rows.size(), &typed, &ends, &found);
        const detail::Handle<lrengine_generations> owner(found);
        hook.rethrow();
        if (found == nullptr) return detail::failure<Generations>(status);
        if (status == LRENGINE_OK) return detail::read(found);
        return {detail::read(found), detail::last_status(status), lrengine_last_error()};
    }
    // The best answer of every input.
    Result<std::vector<Generation>> try_generate(Span<const Input> inputs, const GenerateOptions& options = {},
                                                 const Limits& limits = {}) const {
        Result<Generations> all = try_generate_all(inputs, options, limits);
        if (!all.has_value()) return {all.status(), all.message()};
        std::vector<Generation> best;
        for (std::vector<Generation>& answers : *all) best.push_back(std::move(answers.front()));
        return {std::move(best), all.status(), all.message()};
    }

    // One input's answer, every token told to `on_token` as it comes; false from it ends the request early, which is
    // kCallback with what there was until then.
    Result<Generation> try_stream(const Input& input, std::function<bool(const Token&)> on_token,
                                  GenerateOptions options = {}, const Limits& limits = {}) const {
        options.on_token = std::move(on_token);
        Result<std::vector<Generation>> found = try_generate({&input, 1}, options, limits);
        if (!found.has_value()) return {found.status(), found.message()};
        return {std::move((*found).front()), found.status(), found.message()};
    }

    Result<Session> try_start(Span<const Input> inputs, const GenerateOptions& options = {}) const {
        detail::StopTexts stop;
        Session session;
        session.hook_ = std::make_unique<detail::Hook>(options.on_token);
        const lrengine_generate_options typed = detail::raw(options, stop, *session.hook_);
        const std::vector<lrengine_input> rows = detail::raw(inputs);
        lrengine_session* started = nullptr;
        const lrengine_status status = lrengine_session_start(raw(), rows.data(), rows.size(), &typed, &started);
        if (status != LRENGINE_OK) return detail::failure<Session>(status);
        session.handle_.reset(started);
        return Result<Session>(std::move(session));
    }

    // labels: none for a classifier, which has its own.
    Result<std::vector<Classification>> try_classify(Span<const Input> inputs, Span<const std::string> labels = {},
                                                     const Limits& limits = {}) const {
        Result<EngineInfo> info = try_info();
        if (!info) return {info.status(), info.message()};
        const std::vector<std::string> names =
            labels.empty() ? info->labels : std::vector<std::string>(labels.begin(), labels.end());
        std::vector<lrengine_piece> pieces;
        for (const std::string& label : labels) {
            lrengine_piece piece = LRENGINE_PIECE_INIT;
            piece.text = label.data();
            piece.text_bytes = label.size();
            pieces.push_back(piece);
        }
        const std::vector<lrengine_input> rows = detail::raw(inputs);
        const lrengine_limits ends = detail::raw(limits);
        lrengine_arrays* found = nullptr;
        const lrengine_status status = lrengine_classify(
            raw(), rows.data(), rows.size(), pieces.empty() ? nullptr : pieces.data(), pieces.size(), &ends, &found);
        if (status != LRENGINE_OK) return detail::failure<std::vector<Classification>>(status);
        const detail::Handle<lrengine_arrays> owner(found);
        std::vector<Classification> result;
        for (const Array& array : detail::read(found)) {
            Classification& one = result.emplace_back();
            std::size_t best = 0;
            for (std::size_t i = 0; i < array.data.size(); ++i) {
                one.scores.emplace_back(names[i], array.data[i]);
                if (array.data[i] > array.data[best]) best = i;
            }
            one.label = names[best];
            one.probability = array.data[best];
        }
        return result;
    }

    // Of every input's target.
    Result<std::vector<Score>> try_score(Span<const Input> inputs, const Limits& limits = {}) const {
        const std::vector<lrengine_input> rows = detail::raw(inputs);
        const lrengine_limits ends = detail::raw(limits);
        lrengine_arrays* found = nullptr;
        const lrengine_status status = lrengine_score(raw(), rows.data(), rows.size(), &ends, &found);
        if (status != LRENGINE_OK) return detail::failure<std::vector<Score>>(status);
        const detail::Handle<lrengine_arrays> owner(found);
        std::vector<Score> result;
        for (Array& array : detail::read(found)) {
            Score& one = result.emplace_back();
            for (const float value : array.data) one.log_prob += static_cast<double>(value);
            one.token_log_probs = std::move(array.data);
        }
        return result;
    }

    Result<std::vector<Array>> try_encode(Span<const Input> inputs, EncodeOutput output = EncodeOutput::kFused,
                                          const Limits& limits = {}) const {
        const std::vector<lrengine_input> rows = detail::raw(inputs);
        const lrengine_limits ends = detail::raw(limits);
        lrengine_arrays* found = nullptr;
        const lrengine_status status = lrengine_encode(raw(), rows.data(), rows.size(),
                                                       static_cast<lrengine_encode_output>(output), &ends, &found);
        if (status != LRENGINE_OK) return detail::failure<std::vector<Array>>(status);
        const detail::Handle<lrengine_arrays> owner(found);
        return detail::read(found);
    }

    Result<std::vector<std::int32_t>> try_encode_text(std::string_view text, Side side = Side::kSource,
                                                      bool special_tokens = true) const {
        // As many ids as bytes are enough for nearly every text; the count says when they are not.
        std::vector<std::int32_t> ids(text.size() + 8);
        for (;;) {
            std::size_t count = 0;
            const char* data = text.data() == nullptr ? "" : text.data();
            const lrengine_status status =
                lrengine_encode_text(raw(), static_cast<lrengine_side>(side), data, text.size(), special_tokens ? 1 : 0,
                                     ids.data(), ids.size(), &count);
            if (status != LRENGINE_OK) return detail::failure<std::vector<std::int32_t>>(status);
            const bool fits = count <= ids.size();
            ids.resize(count);
            if (fits) return ids;
        }
    }
    Result<std::string> try_decode(Span<const std::int32_t> ids, Side side = Side::kTarget) const {
        std::string text(ids.size() * 8, '\0');
        for (;;) {
            std::size_t bytes = 0;
            const lrengine_status status = lrengine_decode_ids(raw(), static_cast<lrengine_side>(side), ids.data(),
                                                               ids.size(), text.data(), text.size(), &bytes);
            if (status != LRENGINE_OK) return detail::failure<std::string>(status);
            const bool fits = bytes <= text.size();
            text.resize(bytes);
            if (fits) return text;
        }
    }

    // Inputs in braces, as in try_generate({"text", "another"}).
    Result<Generations> try_generate_all(std::initializer_list<Input> inputs, const GenerateOptions& options = {},
                                         const Limits& limits = {}) const {
        return try_generate_all(Span<const Input>{inputs.begin(), inputs.size()}, options, limits);
    }
    Result<std::vector<Generation>> try_generate(std::initializer_list<Input> inputs,
                                                 const GenerateOptions& options = {}, const Limits& limits = {}) const {
        return try_generate(Span<const Input>{inputs.begin(), inputs.size()}, options, limits);
    }
    Result<Session> try_start(std::initializer_list<Input> inputs, const GenerateOptions& options = {}) const {
        return try_start(Span<const Input>{inputs.begin(), inputs.size()}, options);
    }
    Result<std::vector<Classification>> try_classify(std::initializer_list<Input> inputs,
                                                     Span<const std::string> labels = {},
                                                     const Limits& limits = {}) const {
        return try_classify(Span<const Input>{inputs.begin(), inputs.size()}, labels, limits);
    }
    Result<std::vector<Score>> try_score(std::initializer_list<Input> inputs, const Limits& limits = {}) const {
        return try_score(Span<const Input>{inputs.begin(), inputs.size()}, limits);
    }
    Result<std::vector<Array>> try_encode(std::initializer_list<Input> inputs,
                                          EncodeOutput output = EncodeOutput::kFused, const Limits& limits = {}) const {
        return try_encode(Span<const Input>{inputs.begin(), inputs.size()}, output, limits);
    }

#if LRENGINE_EXCEPTIONS
    explicit Engine(const std::string& directory, const EngineOptions& options = {})
        : Engine(try_open(directory, options).take()) {}

    void check_weights(const Limits& limits = {}) const { try_check_weights(limits).take(); }
    EngineInfo info() const { return try_info().take(); }
    MemoryReport memory() const { return try_memory().take(); }
    std::vector<Generation> generate(const std::vector<Input>& inputs, const GenerateOptions& options = {},
                                     const Limits& limits = {}) const {
        return try_generate(inputs, options, limits).take();
    }
    Generations generate_all(const std::vector<Input>& inputs, const GenerateOptions& options = {},
                             const Limits& limits = {}) const {
        return try_generate_all(inputs, options, limits).take();
    }
    Session start(const std::vector<Input>& inputs, const GenerateOptions& options = {}) const {
        return try_start(inputs, options).take();
    }
    // As try_stream(); an end that the callback asked for is none of the failures.
    Generation stream(const Input& input, std::function<bool(const Token&)> on_token, GenerateOptions options = {},
                      const Limits& limits = {}) const {
        Result<Generation> found = try_stream(input, std::move(on_token), std::move(options), limits);
        if (found.status() == Status::kCallback) return std::move(*found);
        return std::move(found).take();
    }
    std::vector<Classification> classify(const std::vector<Input>& inputs, const std::vector<std::string>& labels = {},
                                         const Limits& limits = {}) const {
        return try_classify(inputs, labels, limits).take();
    }
    std::vector<Score> score(const std::vector<Input>& inputs, const Limits& limits = {}) const {
        return try_score(inputs, limits).take();
    }
    std::vector<Array> encode(const std::vector<Input>& inputs, EncodeOutput output = EncodeOutput::kFused,
                              const Limits& limits = {}) const {
        return try_encode(inputs, output, limits).take();
    }
    std::vector<std::int32_t> encode_text(std::string_view text, Side side = Side::kSource,
                                          bool special_tokens = true) const {
        return try_encode_text(text, side, special_tokens).take();
    }
    std::string decode(Span<const std::int32_t> ids, Side side = Side::kTarget) const {
        return try_decode(ids, side).take();
    }
#endif

private:
    struct Log {
        const std::function<void(std::string_view)>& call;
#if LRENGINE_EXCEPTIONS
        std::exception_ptr thrown;
#else
        int thrown;
#endif
        static void run(void* user, const char* message) {
            Log& log = *static_cast<Log*>(user);
#if LRENGINE_EXCEPTIONS
            try {
                log.call(message);
            } catch (...) {
                log.thrown = std::current_exception();
            }
#else
            log.call(message);
#endif
        }
        void rethrow() {
#if LRENGINE_EXCEPTIONS
            if (thrown) std::rethrow_exception(thrown);
#endif
        }
    };

    detail::Handle<lrengine_engine> handle_;
};

}  // namespace abi1
}  // namespace lrengine
