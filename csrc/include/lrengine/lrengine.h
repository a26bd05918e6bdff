/* lrengine's C interface: open a model directory, generate, classify, score, encode.
 *
 *     lrengine_engine* engine = NULL;
 *     if (lrengine_open("model", NULL, &engine) != LRENGINE_OK) { puts(lrengine_last_error()); return 1; }
 *     lrengine_input input = LRENGINE_INPUT_INIT;
 *     input.source.text = "text";
 *     lrengine_generations* answers = NULL;
 *     if (lrengine_generate(engine, &input, 1, NULL, NULL, &answers) == LRENGINE_OK) {
 *         lrengine_generation best = LRENGINE_GENERATION_INIT;
 *         lrengine_generations_get(answers, 0, 0, &best);
 *         puts(best.text);
 *         lrengine_generations_free(answers);
 *     }
 *     lrengine_close(engine);
 *
 * Errors. Every function that can fail returns a status; lrengine_last_error() then says what was found and what was
 * expected. A failed call writes none of its outputs, and an engine stays usable after it unless the status is
 * LRENGINE_DEVICE, whose message says when the engine must be opened again. Every function that returns a status may
 * return INVALID_ARGUMENT (a null pointer, an uninitialised struct), OUT_OF_MEMORY and INTERNAL; what else, and when,
 * is said at each. Nothing here aborts, exits, prints, or lets a C++ exception through.
 *
 * Ownership. What a function hands out through a `**` argument belongs to the caller until the matching _free or
 * _close. Pointers inside a result live as long as the result; text and arrays given to a function are read before it
 * returns. Every _free and _close accepts NULL. Bool arguments are ints: 0 or 1.
 *
 * Threads. An engine may be used by any number of threads at once. A session belongs to one thread at a time. A
 * lrengine_cancellation may be requested from any thread. Results are read-only: any thread may read them.
 *
 * Versions. A struct that starts with `struct_size` may gain members at its end in later versions: set it with the
 * _INIT macro of the header you compile against; a newer library then knows which members you have. Names, values and
 * meanings here change only with LRENGINE_ABI_VERSION (docs/VERSIONING.md).
 */
#ifndef LRENGINE_LRENGINE_H
#define LRENGINE_LRENGINE_H

#include <stddef.h>
#include <stdint.h>

#define LRENGINE_VERSION_MAJOR 0
#define LRENGINE_VERSION_MINOR 1
#define LRENGINE_VERSION_PATCH 0
#define LRENGINE_ABI_VERSION 1

#if defined(LRENGINE_STATIC)
#define LRENGINE_API
#elif defined(_WIN32)
#define LRENGINE_API __declspec(dllimport)
#else
#define LRENGINE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ---- */

typedef int32_t lrengine_status;
enum {
    LRENGINE_OK = 0,
    LRENGINE_INVALID_ARGUMENT = 1, /* a request: options, ids, lengths, a null pointer */
    LRENGINE_MODEL_FILE = 2,       /* a file of a model directory is malformed, incomplete or contradicts another */
    LRENGINE_UNSUPPORTED = 3,      /* well-formed, but not something this build can run */
    LRENGINE_OUT_OF_MEMORY = 4,    /* of the host or the device; a smaller request may do */
    LRENGINE_DEVICE = 5,           /* driver, device or backend library */
    LRENGINE_CANCELLED = 6,        /* a cancellation was requested */
    LRENGINE_DEADLINE = 7,         /* the call's deadline passed */
    LRENGINE_CALLBACK = 8,         /* a callback of yours returned something other than 0 */
    LRENGINE_INTERNAL = 9          /* a bug of ours */
};

/* Name of a status, such as "invalid argument"; never NULL. */
LRENGINE_API const char* lrengine_status_name(lrengine_status status);
/* What the last failed call of this thread said, UTF-8; "" if none has failed. Valid until the next call here that
 * fails on this thread. */
LRENGINE_API const char* lrengine_last_error(void);
/* "MAJOR.MINOR.PATCH" of the library that is loaded. */
LRENGINE_API const char* lrengine_version(void);
/* LRENGINE_ABI_VERSION of the library that is loaded; compare it with the header's. */
LRENGINE_API int32_t lrengine_abi_version(void);

/* ---- Engine ---- */

/* A model directory in memory, on a device. Immutable. */
typedef struct lrengine_engine lrengine_engine;

/* Called on the thread that opens, with what device "auto" became and why. */
typedef void (*lrengine_log_hook)(void* user, const char* message);

typedef struct lrengine_engine_options {
    size_t struct_size;
    const char* device; /* "auto" (NULL: this), "cpu", "cuda", "cuda:INDEX" */
    const char* dtype;  /* what matrices are computed from: "float32", "bfloat16", "float16", "int8", "int4"; NULL: as
                           they are stored */
    int32_t threads; /* CPU: threads that a request computes with, the caller's included; 0: as many as the process may
                        use */
    lrengine_log_hook log; /* may be NULL */
    void* log_user;
} lrengine_engine_options;
#define LRENGINE_ENGINE_OPTIONS_INIT {sizeof(lrengine_engine_options), NULL, NULL, 0, NULL, NULL}

/* Opens a model directory (docs/MODEL_DIRECTORY.md). Files are mapped, not copied, where the device allows it; they
 * must not change while the engine is open. Weights that are used where they are mapped are searched for NaN, Inf
 * and, of int8, -128 by a thread that goes on when this returns: see lrengine_check_weights(). options: NULL for the
 * defaults. INVALID_ARGUMENT, MODEL_FILE, UNSUPPORTED, OUT_OF_MEMORY, DEVICE. */
LRENGINE_API lrengine_status lrengine_open(const char* directory, const lrengine_engine_options* options,
                                           lrengine_engine** engine);
/* Gives the caller's hold on the engine back. Sessions keep it alive until they are freed. */
LRENGINE_API void lrengine_close(lrengine_engine* engine);

typedef struct lrengine_engine_info {
    size_t struct_size;
    const char* device;        /* "cpu", "cuda:0"; strings live as long as the engine */
    const char* dtype;         /* of the matrices: "float32", "bfloat16", "float16", "int8", ... */
    const char* model_type;    /* "swcm", "layer_fusion", "layer_fusion_classifier" */
    int64_t source_vocabulary; /* ids of a source are below this */
    int64_t max_source_length; /* tokens of a source; 0: no limit */
    int64_t target_vocabulary; /* 0: the model does not generate */
    int64_t max_target_length; /* positions of a target row; 0: no limit, or the model does not generate */
    int64_t encoder_layers;    /* L of lrengine_encode() */
    int64_t encoder_width;     /* D of lrengine_encode() */
    size_t labels;             /* of a classifier; 0 otherwise */
    size_t end_tokens;         /* number of ids that end a target */
    const int32_t* end_token_ids;
    int32_t reads_source_text; /* 1: sources and prefixes may be given as text */
    int32_t writes_text;       /* 1: answers have text */
} lrengine_engine_info;
#define LRENGINE_ENGINE_INFO_INIT {sizeof(lrengine_engine_info), NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0}

/* Writes what the engine is to *info, as far as its struct_size goes. */
LRENGINE_API lrengine_status lrengine_get_info(const lrengine_engine* engine, lrengine_engine_info* info);
/* Label `index` of a classifier, UTF-8; NULL if there is none. Lives as long as the engine. */
LRENGINE_API const char* lrengine_label(const lrengine_engine* engine, size_t index);

typedef struct lrengine_memory {
    size_t struct_size;
    uint64_t weight_bytes;       /* mapped or converted; of mapped word embeddings that are no output projection too,
                                    the process holds only what requests looked up */
    uint64_t request_bytes;      /* caches and scratch of the requests that are open now, on this engine; not what
                                    a thread keeps to pack a product in (up to 10 MB after thousands of tokens),
                                    and not scratch that is kept on a CPU for the next request, up to 64 MiB */
    uint64_t peak_request_bytes; /* the most that request_bytes has been */
} lrengine_memory;
#define LRENGINE_MEMORY_INIT {sizeof(lrengine_memory), 0, 0, 0}

/* Writes what the engine holds now, in bytes of the host or, on a GPU, of the device. Cheap: for any thread, any time.
 */
LRENGINE_API lrengine_status lrengine_get_memory(const lrengine_engine* engine, lrengine_memory* memory);

/* ---- Text ---- */

/* Which tokenizer of the directory: the source's, or that of targets and prompts (the LLM's in layer_fusion, the same
 * as the source's in swcm). */
typedef int32_t lrengine_side;
enum { LRENGINE_SOURCE = 0, LRENGINE_TARGET = 1 };

/* Ids of UTF-8 text; malformed bytes count as U+FFFD. special_tokens: put the tokenizer's own around the text, as a
 * source has them. Writes at most `capacity` ids and always the number there are to *count; ids may be NULL when
 * capacity is 0. text_bytes: LRENGINE_TERMINATED (below): up to its 0. INVALID_ARGUMENT also for a text that the
 * tokenizer cannot express; UNSUPPORTED: the directory has no tokenizer that this build reads. */
LRENGINE_API lrengine_status lrengine_encode_text(const lrengine_engine* engine, lrengine_side side, const char* text,
                                                  size_t text_bytes, int32_t special_tokens, int32_t* ids,
                                                  size_t capacity, size_t* count);
/* UTF-8 text of ids; special tokens, and ids that there are not, are left out. Writes at most `capacity` bytes, no 0 at
 * the end, and always the number there are to *bytes; text may be NULL when capacity is 0. UNSUPPORTED as above. */
LRENGINE_API lrengine_status lrengine_decode_ids(const lrengine_engine* engine, lrengine_side side, const int32_t* ids,
                                                 size_t count, char* text, size_t capacity, size_t* bytes);

/* ---- Requests ---- */

/* Tokens or text: one of both, neither (empty). `text` is UTF-8 of `text_bytes` bytes; LRENGINE_TERMINATED: up to its
 * 0. Without struct_size: this struct never gains members. */
typedef struct lrengine_piece {
    const int32_t* ids;
    size_t id_count;
    const char* text;
    size_t text_bytes;
} lrengine_piece;
#define LRENGINE_TERMINATED ((size_t)-1)
#define LRENGINE_PIECE_INIT {NULL, 0, NULL, LRENGINE_TERMINATED}

/* One input. In an array of inputs, all have the struct_size of the first. */
typedef struct lrengine_input {
    size_t struct_size;
    lrengine_piece source; /* as ids: with the special tokens that the tokenizer puts around a text */
    lrengine_piece
        prompt; /* layer_fusion: what the LLM reads after the source; text goes into the model's prompt template */
    lrengine_piece
        target; /* generate: tokens that the answer starts with, not part of it; score: what is scored. A target
                   given as text is scored with the end token that closes it, ids exactly as they are */
} lrengine_input;
#define LRENGINE_INPUT_INIT {sizeof(lrengine_input), LRENGINE_PIECE_INIT, LRENGINE_PIECE_INIT, LRENGINE_PIECE_INIT}

/* A flag that ends calls early, from any thread. (Sessions: lrengine_session_cancel().) */
typedef struct lrengine_cancellation lrengine_cancellation;
/* The caller's, until lrengine_cancellation_free(). Any number of calls may be given one. */
LRENGINE_API lrengine_status lrengine_cancellation_create(lrengine_cancellation** cancellation);
/* Every call that was given this flag ends before its next token, or, where it computes numbers of many rows, before
 * the next thousand tokens of them; so do later calls. Where sources or whole targets are read, a call ends before the
 * next layer. */
LRENGINE_API void lrengine_cancellation_request(lrengine_cancellation* cancellation);
/* Not while a call that was given it runs. */
LRENGINE_API void lrengine_cancellation_free(lrengine_cancellation* cancellation);

/* When a call ends early. */
typedef struct lrengine_limits {
    size_t struct_size;
    int64_t deadline_microseconds;             /* from the call on; 0: none */
    const lrengine_cancellation* cancellation; /* may be NULL */
} lrengine_limits;
#define LRENGINE_LIMITS_INIT {sizeof(lrengine_limits), 0, NULL}

typedef int32_t lrengine_finish_reason;
enum {
    LRENGINE_FINISH_STOP = 0,      /* an end token, or a stop string */
    LRENGINE_FINISH_LENGTH = 1,    /* max_new_tokens, or the model's longest target */
    LRENGINE_FINISH_CANCELLED = 2, /* by a cancellation, a callback or a deadline: what there was until then */
};

/* One token of a row that is being generated. */
typedef struct lrengine_token {
    size_t struct_size;
    size_t input;    /* number of the input */
    size_t sequence; /* number of the answer to it */
    int32_t token;
    float log_prob;   /* under the model itself: penalties, temperature and filters do not change it */
    const char* text; /* what the token adds to the text, UTF-8; NULL: the engine writes no text. The texts of a row add
                         up to its answer's. A token that ends inside a character, or that may begin a stop string, is
                         told later, together with the one that settles it: then it has "", and that one all the text */
    size_t text_bytes;
} lrengine_token;

/* Called between steps, on the thread that generates; pointers live until it returns. Anything but 0 ends the request:
 * lrengine_generate() then returns LRENGINE_CALLBACK. It may not call into the same session. */
typedef int32_t (*lrengine_token_hook)(void* user, const lrengine_token* token);

typedef int32_t lrengine_early_stopping;
enum {
    LRENGINE_STOP_HEURISTIC = 0, /* beams: transformers' early_stopping=False */
    LRENGINE_STOP_FIRST = 1,     /* True */
    LRENGINE_STOP_NEVER = 2      /* "never" */
};

/* Names and meanings are those of transformers' generate(). */
typedef struct lrengine_generate_options {
    size_t struct_size;
    int64_t max_new_tokens;       /* the end token included */
    int64_t min_new_tokens;       /* no end token before this many */
    int64_t num_beams;            /* 1: no beam search */
    int64_t num_return_sequences; /* answers an input: beams, or samples */
    double length_penalty;        /* beams are ranked by score / length ** length_penalty */
    lrengine_early_stopping early_stopping;
    int32_t do_sample;              /* draw tokens instead of taking the likeliest */
    double repetition_penalty;      /* over 1: tokens already there become less likely */
    int64_t no_repeat_ngram_size;   /* no n-gram of this size twice; 0: off */
    double temperature;             /* sampling: logits are divided by it */
    int64_t top_k;                  /* sampling: only the k likeliest; 0: all */
    double top_p;                   /* sampling: only the likeliest that together have this probability */
    int32_t has_seed;               /* 0: a fresh seed */
    uint64_t seed;                  /* the same seed gives the same answers */
    const int32_t* suppress_tokens; /* ids that are never generated */
    size_t suppress_token_count;
    const char* const* stop; /* strings that end a row; its text is cut before them. UTF-8, none of them empty, each
                                up to its 0 unless stop_bytes says otherwise. Needs a tokenizer */
    size_t stop_count;
    lrengine_token_hook on_token; /* may be NULL; not with beams, whose tokens are not final before the end */
    void* on_token_user;
    const size_t* stop_bytes; /* bytes of each of `stop`, LRENGINE_TERMINATED: up to its 0; NULL: all of them are */
} lrengine_generate_options;
#define LRENGINE_GENERATE_OPTIONS_INIT  \
    {sizeof(lrengine_generate_options), \
     256,                               \
     0,                                 \
     1,                                 \
     1,                                 \
     1.0,                               \
     LRENGINE_STOP_HEURISTIC,           \
     0,                                 \
     1.0,                               \
     0,                                 \
     1.0,                               \
     0,                                 \
     1.0,                               \
     0,                                 \
     0,                                 \
     NULL,                              \
     0,                                 \
     NULL,                              \
     0,                                 \
     NULL,                              \
     NULL,                              \
     NULL}

/* ---- Generate ---- */

/* The answers of a request, one list an input, best first. */
typedef struct lrengine_generations lrengine_generations;

typedef struct lrengine_generation {
    size_t struct_size;
    const int32_t* tokens; /* without the prefix and the end token */
    size_t token_count;
    const float* log_probs; /* of the tokens, and last the end token's where one ended the row */
    size_t log_prob_count;
    double score;     /* their sum */
    const char* text; /* UTF-8 with a 0 at its end; NULL: the engine writes no text */
    size_t text_bytes;
    lrengine_finish_reason finish_reason;
} lrengine_generation;
#define LRENGINE_GENERATION_INIT {sizeof(lrengine_generation), NULL, 0, NULL, 0, 0.0, NULL, 0, LRENGINE_FINISH_STOP}

/* Generates an answer for each of `count` inputs; what an input gets does not depend on the others. options, limits:
 * NULL for the defaults. When a cancellation, a deadline or a callback ends it early, the status says so (CANCELLED,
 * DEADLINE, CALLBACK) and *generations still holds what there is, with LRENGINE_FINISH_CANCELLED for what was not
 * finished: the one case in which a status other than OK comes with an output. INVALID_ARGUMENT: an option, id or
 * length that makes no sense, or a model that does not generate; UNSUPPORTED: text without a tokenizer, or a row longer
 * than the LLM's sliding window; MODEL_FILE: weights whose numbers overflow, or that
 * lrengine_check_weights() refuses; DEVICE. */
LRENGINE_API lrengine_status lrengine_generate(const lrengine_engine* engine, const lrengine_input* inputs,
                                               size_t count, const lrengine_generate_options* options,
                                               const lrengine_limits* limits, lrengine_generations** generations);
/* How many inputs the request had; 0 for NULL. */
LRENGINE_API size_t lrengine_generations_inputs(const lrengine_generations* generations);
/* Answers to an input; 0 for an input that there is not. */
LRENGINE_API size_t lrengine_generations_sequences(const lrengine_generations* generations, size_t input);
/* Answer `sequence` to input `input`, both counted from 0; its pointers live as long as `generations`. INVALID_ARGUMENT
 * when there is none of that number. */
LRENGINE_API lrengine_status lrengine_generations_get(const lrengine_generations* generations, size_t input,
                                                      size_t sequence, lrengine_generation* generation);
LRENGINE_API void lrengine_generations_free(lrengine_generations* generations);

/* The same, a token a row at a time. A session owns its caches and keeps the engine; on_token is called by
 * lrengine_session_step(). */
typedef struct lrengine_session lrengine_session;

/* Checks the request, with the statuses of lrengine_generate(); computes nothing. What `inputs` and `options` point at
 * is copied, but for on_token_user, which must live as long as the session. */
LRENGINE_API lrengine_status lrengine_session_start(const lrengine_engine* engine, const lrengine_input* inputs,
                                                    size_t count, const lrengine_generate_options* options,
                                                    lrengine_session** session);
/* One token for every row that is not finished; *done becomes 1 when none is left, and nothing more is computed. A step
 * that fails ends the session: lrengine_session_results() has what there was before it. After OUT_OF_MEMORY and DEVICE
 * the step may be tried again: where the device refused it before anything was decided, the session goes on; otherwise
 * it is done, with LRENGINE_FINISH_CANCELLED. */
LRENGINE_API lrengine_status lrengine_session_step(lrengine_session* session, int32_t* done);
/* From any thread: the session is done before its next step, or, while the first one reads the sources, before its next
 * layer. */
LRENGINE_API void lrengine_session_cancel(lrengine_session* session);
/* What there is of the answers, at any time: a copy, which the caller frees. */
LRENGINE_API lrengine_status lrengine_session_results(const lrengine_session* session,
                                                      lrengine_generations** generations);
/* Not while another thread is in a function that was given it. */
LRENGINE_API void lrengine_session_free(lrengine_session* session);

/* ---- Classify, score, encode: numbers ---- */

/* Rows of float32, one or more dimensions a row. */
typedef struct lrengine_arrays lrengine_arrays;

typedef struct lrengine_array {
    size_t struct_size;
    const float* data; /* dense, the last dimension next to each other */
    size_t size;       /* elements */
    size_t dimensions; /* 1, 2 or 3 */
    int64_t shape[3];
} lrengine_array;
#define LRENGINE_ARRAY_INIT {sizeof(lrengine_array), NULL, 0, 0, {0, 0, 0}}

/* How many arrays there are: one an input; 0 for NULL. */
LRENGINE_API size_t lrengine_arrays_count(const lrengine_arrays* arrays);
/* Array `index`, counted from 0; its data lives as long as `arrays`. INVALID_ARGUMENT when there is none of that
 * number. */
LRENGINE_API lrengine_status lrengine_arrays_get(const lrengine_arrays* arrays, size_t index, lrengine_array* array);
LRENGINE_API void lrengine_arrays_free(lrengine_arrays* arrays);

/* Probabilities of labels [labels] an input, which sum to 1. A classifier: in the order of lrengine_label(), labels
 * must be NULL. A model that generates: `labels` are texts or ids, none twice, and a label's probability is the softmax
 * of its log-likelihood as a target. This call and the two below: limits NULL for none; CANCELLED and DEADLINE come
 * without an output; INVALID_ARGUMENT, UNSUPPORTED, MODEL_FILE and DEVICE as for lrengine_generate(). */
LRENGINE_API lrengine_status lrengine_classify(const lrengine_engine* engine, const lrengine_input* inputs,
                                               size_t count, const lrengine_piece* labels, size_t label_count,
                                               const lrengine_limits* limits, lrengine_arrays** probabilities);
/* Log-probabilities [target tokens] an input of its target, each token given those before. */
LRENGINE_API lrengine_status lrengine_score(const lrengine_engine* engine, const lrengine_input* inputs, size_t count,
                                            const lrengine_limits* limits, lrengine_arrays** log_probs);

typedef int32_t lrengine_encode_output;
enum {
    LRENGINE_ENCODE_LAST = 0,   /* [S, D]: the last layer */
    LRENGINE_ENCODE_FUSED = 1,  /* [S, D]: mixed over layers; swcm, which has no mixer: the last layer */
    LRENGINE_ENCODE_ALL = 2,    /* [L, S, D] */
    LRENGINE_ENCODE_WEIGHTS = 3 /* [S, L]: the mixer's; swcm: INVALID_ARGUMENT */
};
/* The encoder's states an input, S its source's tokens. */
LRENGINE_API lrengine_status lrengine_encode(const lrengine_engine* engine, const lrengine_input* inputs, size_t count,
                                             lrengine_encode_output output, const lrengine_limits* limits,
                                             lrengine_arrays** states);

/* Waits until all weights were searched for what no weight can be, NaN, Inf and, of int8, -128: MODEL_FILE names the
 * first tensor that has one. A request waits too, with the same answer; this is for programs that say when they are
 * ready. Takes as long as reading the weights from the disk or, from the page cache, some 50 to 120 ms a gigabyte after
 * opening; then nothing. limits: NULL for none. MODEL_FILE, CANCELLED, DEADLINE. */
LRENGINE_API lrengine_status lrengine_check_weights(const lrengine_engine* engine, const lrengine_limits* limits);

#ifdef __cplusplus
}
#endif

#endif
