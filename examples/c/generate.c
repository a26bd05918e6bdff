/* Generates an answer for one text, or for ids where the model has no tokenizer:
 *     generate MODEL "text"
 *     generate MODEL --ids 5 17 4 */
#include <lrengine/lrengine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char* what, lrengine_status status) {
    fprintf(stderr, "%s: %s: %s\n", what, lrengine_status_name(status), lrengine_last_error());
    return 1;
}

/* Prints each token's text, or its id, the moment it is known. */
static int32_t print_token(void* user, const lrengine_token* token) {
    (void)user;
    if (token->text != NULL) {
        fwrite(token->text, 1, token->text_bytes, stdout);
    } else {
        printf("%d ", (int)token->token);
    }
    fflush(stdout);
    return 0; /* anything else ends the request */
}

int main(int argc, char** argv) {
    lrengine_engine* engine = NULL;
    lrengine_generations* answers = NULL;
    lrengine_input input = LRENGINE_INPUT_INIT;
    lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
    lrengine_limits limits = LRENGINE_LIMITS_INIT;
    lrengine_generation best = LRENGINE_GENERATION_INIT;
    lrengine_status status;
    int32_t* ids = NULL;
    int i;

    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL TEXT | MODEL --ids ID...\n", argv[0]);
        return 2;
    }
    if (lrengine_abi_version() != LRENGINE_ABI_VERSION) {
        fprintf(stderr, "compiled for another lrengine than %s\n", lrengine_version());
        return 2;
    }
    if (strcmp(argv[2], "--ids") == 0) {
        ids = malloc(sizeof(int32_t) * (size_t)argc);
        if (ids == NULL) return 1;
        for (i = 3; i < argc; ++i) ids[i - 3] = (int32_t)strtol(argv[i], NULL, 10);
        input.source.ids = ids;
        input.source.id_count = (size_t)(argc - 3);
    } else {
        input.source.text = argv[2];
    }

    status = lrengine_open(argv[1], NULL, &engine);
    if (status != LRENGINE_OK) {
        free(ids);
        return failed(argv[1], status);
    }
    options.max_new_tokens = 64;
    options.on_token = print_token;
    limits.deadline_microseconds = 60 * 1000 * 1000;
    status = lrengine_generate(engine, &input, 1, &options, &limits, &answers);
    if (status == LRENGINE_OK) {
        lrengine_generations_get(answers, 0, 0, &best);
        printf("\n%zu tokens, log-probability %.3f\n", best.token_count, best.score);
    }
    i = status == LRENGINE_OK ? 0 : failed("generate", status);
    lrengine_generations_free(answers); /* a request that was ended early has answers too */
    lrengine_close(engine);
    free(ids);
    return i;
}
