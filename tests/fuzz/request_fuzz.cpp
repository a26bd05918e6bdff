// Requests of every kind through the C interface, on engines that stay open: text and ids, options, stop strings,
// labels, limits, callbacks that end requests, sessions, and structs of other versions. What a call promises is held
// against what it did.
#include <array>
#include <cmath>
#include <map>

#include "caller.h"
#include "model_directories.h"

namespace {

using fuzz::Bytes;
using fuzz::Caller;
using fuzz::Structs;
using model_directories::Kind;

class Opened {
public:
    Opened(Kind kind, bool tokenizers) {
        model_directories::Files files = model_directories::make(kind, false);
        if (!tokenizers) files.erase("tokenizer.json");
        model_directories::write(folder_, files);
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        options.threads = 1;
        if (lrengine_open(folder_.path().c_str(), &options, &engine_) != LRENGINE_OK) std::abort();
        if (lrengine_get_info(engine_, &info_) != LRENGINE_OK) std::abort();
    }
    ~Opened() { lrengine_close(engine_); }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

    const lrengine_engine* engine() const { return engine_; }
    const lrengine_engine_info& info() const { return info_; }

private:
    model_files::TemporaryDirectory folder_;
    lrengine_engine* engine_ = nullptr;
    lrengine_engine_info info_ = LRENGINE_ENGINE_INFO_INIT;
};

void require(bool condition) {
    if (!condition) std::abort();
}

bool ended_early(lrengine_status status) {
    return status == LRENGINE_CANCELLED || status == LRENGINE_DEADLINE || status == LRENGINE_CALLBACK;
}

// What a callback heard, and when it has heard enough.
struct Listener {
    struct Row {
        std::vector<std::int32_t> tokens;
        std::string text;
    };
    std::map<std::pair<std::size_t, std::size_t>, Row> rows;
    int refuses_after = -1, cancels_after = -1, heard = 0;
    lrengine_cancellation* cancellation = nullptr;

    static std::int32_t hear(void* user, const lrengine_token* token) {
        auto& listener = *static_cast<Listener*>(user);
        Row& row = listener.rows[{token->input, token->sequence}];
        row.tokens.push_back(token->token);
        if (token->text != nullptr) row.text.append(token->text, token->text_bytes);
        const int number = listener.heard++;
        if (number == listener.cancels_after) lrengine_cancellation_request(listener.cancellation);
        return number == listener.refuses_after ? 1 : 0;
    }
};

// One call's inputs, options and limits.
class Request {
public:
    Request(const Opened& opened, Bytes& input)
        : opened_(opened),
          input_(input),
          caller_(input),
          input_size_(fuzz::some_struct_size(input, sizeof(lrengine_input))),
          inputs_(some_inputs(), input_size_, input) {
        lrengine_cancellation_create(&listener_.cancellation);
    }
    ~Request() { lrengine_cancellation_free(listener_.cancellation); }
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;

    void generate() {
        Structs<lrengine_generate_options> options({some_options()}, input_);
        Structs<lrengine_limits> limits({some_limits()}, input_);
        lrengine_generations* answers = nullptr;
        const lrengine_status status =
            lrengine_generate(opened_.engine(), inputs_.get(), count_, options.get(), limits.get(), &answers);
        fuzz::expect_status(status);
        require((answers != nullptr) == (status == LRENGINE_OK || ended_early(status)));
        const bool told = options.size() >= sizeof(lrengine_generate_options) && listens_;
        if (answers != nullptr) check_answers(answers, status == LRENGINE_OK && told);
        lrengine_generations_free(answers);
    }

    void step_through() {
        Structs<lrengine_generate_options> options({some_options()}, input_);
        lrengine_session* session = nullptr;
        const lrengine_status started =
            lrengine_session_start(opened_.engine(), inputs_.get(), count_, options.get(), &session);
        fuzz::expect_status(started);
        require((session != nullptr) == (started == LRENGINE_OK));
        const std::uint8_t cancelled_at = input_.take<std::uint8_t>(), looked_at = input_.take<std::uint8_t>();
        std::int32_t done = started == LRENGINE_OK ? 0 : 1;
        for (int step = 0; done == 0 || step < 2; ++step) {
            require(step < 100);
            if (step == cancelled_at) lrengine_session_cancel(session);
            if (step == looked_at) results_of(session);
            const lrengine_status status = lrengine_session_step(session, &done);
            fuzz::expect_status(status);
            if (status != LRENGINE_OK) break;
        }
        if (session != nullptr) results_of(session);
        lrengine_session_free(session);
    }

    void classify() {
        std::vector<lrengine_piece> labels(input_.index(5));
        for (lrengine_piece& label : labels) label = caller_.piece();
        const bool missing = input_.take<std::uint8_t>() == 255;
        Structs<lrengine_limits> limits({some_limits()}, input_);
        lrengine_arrays* arrays = nullptr;
        const lrengine_status status = lrengine_classify(opened_.engine(), inputs_.get(), count_,
                                                         missing || labels.empty() ? nullptr : labels.data(),
                                                         labels.size(), limits.get(), &arrays);
        check_arrays(status, arrays, 1, [](const lrengine_array& row) {
            double sum = 0.0;
            for (std::size_t i = 0; i < row.size; ++i) sum += row.data[i];
            require(std::abs(sum - 1.0) < 1e-3);
        });
    }

    void score() {
        Structs<lrengine_limits> limits({some_limits()}, input_);
        lrengine_arrays* arrays = nullptr;
        const lrengine_status status = lrengine_score(opened_.engine(), inputs_.get(), count_, limits.get(), &arrays);
        check_arrays(status, arrays, 1, [](const lrengine_array& row) {
            for (std::size_t i = 0; i < row.size; ++i) require(row.data[i] < 1e-3f);
        });
    }

    void encode() {
        const lrengine_encode_output output = input_.take<std::uint8_t>() % 6 - 1;
        Structs<lrengine_limits> limits({some_limits()}, input_);
        lrengine_arrays* arrays = nullptr;
        const lrengine_status status =
            lrengine_encode(opened_.engine(), inputs_.get(), count_, output, limits.get(), &arrays);
        check_arrays(status, arrays, output == LRENGINE_ENCODE_ALL ? 3 : 2, [](const lrengine_array&) {});
    }

    // Text to ids and back, each into less room than there is need for, too.
    void text() {
        const std::string_view given = caller_.text();
        const lrengine_side side = input_.take<std::uint8_t>() % 4 - 1;
        std::vector<std::int32_t> ids(input_.index(40));
        std::size_t count = 0;
        const std::int32_t special = input_.take<std::uint8_t>() & 1;
        const lrengine_status status = lrengine_encode_text(opened_.engine(), side, given.data(), given.size(), special,
                                                            ids.empty() ? nullptr : ids.data(), ids.size(), &count);
        fuzz::expect_status(status);
        if (status == LRENGINE_OK) ids.resize(std::min(count, ids.size()));
        if (input_.take<std::uint8_t>() & 1) ids = caller_.ids();
        std::vector<char> written(input_.index(40));
        std::size_t bytes = 0;
        fuzz::expect_status(lrengine_decode_ids(opened_.engine(), side, ids.data(), ids.size(),
                                                written.empty() ? nullptr : written.data(), written.size(), &bytes));
    }

    void ask() {
        Structs<lrengine_engine_info> info({lrengine_engine_info{}}, input_);
        fuzz::expect_status(lrengine_get_info(opened_.engine(), info.get()));
        Structs<lrengine_memory> memory({lrengine_memory{}}, input_);
        fuzz::expect_status(lrengine_get_memory(opened_.engine(), memory.get()));
        const std::size_t index = input_.take<std::uint8_t>();
        require((lrengine_label(opened_.engine(), index) != nullptr) == (index < opened_.info().labels));
    }

private:
    std::vector<lrengine_input> some_inputs() {
        std::vector<lrengine_input> inputs(input_.index(4), LRENGINE_INPUT_INIT);
        for (lrengine_input& one : inputs) {
            const bool whole = input_size_ >= sizeof(lrengine_input);
            one.source = caller_.piece(whole);
            one.prompt = caller_.piece(whole);
            one.target = caller_.piece(whole);
        }
        count_ = inputs.size();
        return inputs;
    }

    lrengine_limits some_limits() {
        lrengine_limits limits = LRENGINE_LIMITS_INIT;
        const std::uint8_t choice = input_.take<std::uint8_t>();
        if (choice & 1) limits.cancellation = listener_.cancellation;
        if (choice & 2) lrengine_cancellation_request(listener_.cancellation);
        if ((choice & 12) == 4) limits.deadline_microseconds = 1 + choice / 16;
        if ((choice & 12) == 8) limits.deadline_microseconds = std::numeric_limits<std::int64_t>::max();
        if ((choice & 12) == 12) limits.deadline_microseconds = input_.take<std::int64_t>();
        return limits;
    }

    lrengine_generate_options some_options() {
        lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
        const std::uint16_t set = input_.take<std::uint16_t>();
        options.max_new_tokens = input_.take<std::int8_t>() % 12;
        options.has_seed = 1;
        if (set & 1) options.min_new_tokens = input_.take<std::int8_t>();
        if (set & 2) options.num_beams = input_.take<std::int8_t>() % 12;
        if (set & 4) options.num_return_sequences = input_.take<std::int8_t>() % 12;
        if (set & 8) options.length_penalty = input_.take<double>();
        if (set & 16) options.early_stopping = input_.take<std::int8_t>() % 4;
        if (set & 32) options.repetition_penalty = input_.take<double>();
        if (set & 64) options.no_repeat_ngram_size = input_.take<std::int64_t>();
        if (set & 128) options.do_sample = 1;
        if (set & 256) options.temperature = input_.take<double>();
        if (set & 512) options.top_k = input_.take<std::int64_t>();
        if (set & 1024) options.top_p = input_.take<double>();
        if (set & 2048) options.seed = input_.take<std::uint64_t>();
        if (set & 4096) {
            const std::vector<std::int32_t>& suppressed = caller_.ids();
            options.suppress_tokens = suppressed.data();
            options.suppress_token_count = suppressed.size();
        }
        if (set & 8192) {
            stop_.resize(input_.index(4));
            for (const char*& text : stop_) text = input_.take<std::uint8_t>() == 255 ? nullptr : caller_.terminated();
            options.stop = stop_.data();
            options.stop_count = stop_.size();
        }
        listens_ = (set & 16384) != 0;
        if (listens_) {
            options.on_token = Listener::hear;
            options.on_token_user = &listener_;
            listener_.refuses_after = input_.take<std::int8_t>();
            listener_.cancels_after = input_.take<std::int8_t>();
        }
        return options;
    }

    // told: the callback heard all that there is.
    void check_answers(const lrengine_generations* answers, bool told) {
        require(lrengine_generations_inputs(answers) == count_);
        for (std::size_t input = 0; input < count_; ++input) {
            for (std::size_t sequence = 0; sequence < lrengine_generations_sequences(answers, input); ++sequence) {
                lrengine_generation answer = LRENGINE_GENERATION_INIT;
                require(lrengine_generations_get(answers, input, sequence, &answer) == LRENGINE_OK);
                check_answer(answer);
                if (told) check_told(answer, listener_.rows[{input, sequence}]);
            }
        }
        Structs<lrengine_generation> other({lrengine_generation{}}, input_);
        fuzz::expect_status(lrengine_generations_get(answers, input_.take<std::uint8_t>() % 4, 0, other.get()));
    }

    void check_answer(const lrengine_generation& answer) const {
        require((answer.text != nullptr) == (opened_.info().writes_text != 0));
        require(answer.log_prob_count - answer.token_count <= 1);
        for (std::size_t i = 0; i < answer.log_prob_count; ++i) require(answer.log_probs[i] < 1e-3f);
        for (std::size_t i = 0; i < answer.token_count; ++i) {
            require(answer.tokens[i] >= 0 && answer.tokens[i] < opened_.info().target_vocabulary);
        }
        if (answer.text != nullptr) require(answer.text[answer.text_bytes] == '\0');
    }

    static void check_told(const lrengine_generation& answer, const Listener::Row& row) {
        require(row.tokens == std::vector<std::int32_t>(answer.tokens, answer.tokens + answer.token_count));
        if (answer.text != nullptr) require(row.text == std::string(answer.text, answer.text_bytes));
    }

    void results_of(const lrengine_session* session) {
        if (session == nullptr) return;
        lrengine_generations* answers = nullptr;
        require(lrengine_session_results(session, &answers) == LRENGINE_OK);
        check_answers(answers, false);
        lrengine_generations_free(answers);
    }

    template <typename CheckRow>
    void check_arrays(lrengine_status status, lrengine_arrays* arrays, std::size_t dimensions, CheckRow check_row) {
        fuzz::expect_status(status);
        require((arrays != nullptr) == (status == LRENGINE_OK));
        if (arrays == nullptr) return;
        require(lrengine_arrays_count(arrays) == count_);
        for (std::size_t i = 0; i < count_; ++i) {
            lrengine_array row = LRENGINE_ARRAY_INIT;
            require(lrengine_arrays_get(arrays, i, &row) == LRENGINE_OK && row.dimensions == dimensions);
            std::int64_t size = 1;
            for (std::size_t d = 0; d < dimensions; ++d) size *= row.shape[d];
            require(size == static_cast<std::int64_t>(row.size));
            for (std::size_t k = 0; k < row.size; ++k) require(std::isfinite(row.data[k]));
            check_row(row);
        }
        Structs<lrengine_array> other({lrengine_array{}}, input_);
        fuzz::expect_status(lrengine_arrays_get(arrays, input_.take<std::uint8_t>() % 4, other.get()));
        lrengine_arrays_free(arrays);
    }

    const Opened& opened_;
    Bytes& input_;
    Caller caller_;
    std::size_t count_ = 0;
    std::vector<const char*> stop_;
    bool listens_ = false;
    Listener listener_;
    std::size_t input_size_;
    Structs<lrengine_input> inputs_;
};

}  // namespace

// The first byte: which engine; the second: which call.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::array<Opened, 4> opened{
        {{Kind::kSwcm, true}, {Kind::kFusion, true}, {Kind::kClassifier, true}, {Kind::kSwcm, false}}};
    using Call = void (Request::*)();
    constexpr std::array<Call, 8> kCalls{&Request::generate, &Request::step_through, &Request::classify,
                                         &Request::score,    &Request::encode,       &Request::text,
                                         &Request::ask,      &Request::generate};
    Bytes input(data, size);
    const Opened& chosen = opened[input.take<std::uint8_t>() % opened.size()];
    const Call call = kCalls[input.take<std::uint8_t>() % kCalls.size()];
    Request request(chosen, input);
    (request.*call)();
    return 0;
}
