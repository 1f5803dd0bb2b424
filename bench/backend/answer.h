/* The answers of the bench backend, byte for byte: the backend sends them, the load generator expects them.
 *
 * Everything in an answer follows from the marker in the prompt, which every gateway passes on unchanged:
 *     [[chunks=64 interval_us=20000 prompt_tokens=50]]
 * Shapes follow vLLM's: a role event, one event per token, usage, [DONE]. Every token is 8 bytes: "t000042 ".
 */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNKS_MAX 100000u
#define TOKEN_DIGITS 6
#define TOKEN_BYTES 8
#define EVENT_MAX 512

#define EVENT_HEAD                                                                                           \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"          \
    "\"model\":\"bench\",\"choices\":["
#define EVENT_ROLE                                                                                           \
    EVENT_HEAD "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"         \
               "\"finish_reason\":null}]}\n\n"
#define EVENT_TOKEN_HEAD EVENT_HEAD "{\"index\":0,\"delta\":{\"content\":\"t"
#define EVENT_TOKEN_TAIL " \"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
#define EVENT_LAST_TAIL " \"},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n"
#define EVENT_DONE "data: [DONE]\n\n"
#define EVENTS_BESIDE_TOKENS 3 /* role, usage, [DONE] */

struct ask {
    unsigned chunks;
    unsigned interval_us;
    unsigned prompt_tokens;
    int stream;
};

/* The six digits of a token, in place. */
static inline void token_digits(char *at, unsigned token) {
    for (int i = TOKEN_DIGITS - 1; i >= 0; i--) {
        at[i] = (char)('0' + token % 10);
        token /= 10;
    }
}

static inline size_t event_token(char *out, unsigned token, int last) {
    size_t n = sizeof EVENT_TOKEN_HEAD - 1;
    memcpy(out, EVENT_TOKEN_HEAD, n);
    token_digits(out + n, token);
    n += TOKEN_DIGITS;
    const char *tail = last ? EVENT_LAST_TAIL : EVENT_TOKEN_TAIL;
    size_t tail_bytes = last ? sizeof EVENT_LAST_TAIL - 1 : sizeof EVENT_TOKEN_TAIL - 1;
    memcpy(out + n, tail, tail_bytes);
    return n + tail_bytes;
}

static inline size_t event_usage(char *out, const struct ask *ask) {
    return (size_t)snprintf(out, EVENT_MAX,
                            EVENT_HEAD "],\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u,"
                                       "\"completion_tokens\":%u}}\n\n",
                            ask->prompt_tokens, ask->prompt_tokens + ask->chunks, ask->chunks);
}

/* The text of all tokens; room for chunks * TOKEN_BYTES. */
static inline size_t answer_text(char *out, unsigned chunks) {
    for (unsigned k = 0; k < chunks; k++) {
        char *at = out + (size_t)k * TOKEN_BYTES;
        at[0] = 't';
        token_digits(at + 1, k);
        at[TOKEN_BYTES - 1] = ' ';
    }
    return (size_t)chunks * TOKEN_BYTES;
}

/* The body of an answer that is not streamed; room for chunks * TOKEN_BYTES + EVENT_MAX. */
static inline size_t answer_whole(char *out, const struct ask *ask) {
    int n = sprintf(out, "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,"
                         "\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                         "\"content\":\"");
    size_t at = (size_t)n + answer_text(out + n, ask->chunks);
    n = sprintf(out + at, "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":%u,"
                          "\"total_tokens\":%u,\"completion_tokens\":%u}}",
                ask->prompt_tokens, ask->prompt_tokens + ask->chunks, ask->chunks);
    return at + (size_t)n;
}

/* The body of a streamed answer without its chunked framing; room for (chunks + 3) * EVENT_MAX. */
static inline size_t answer_stream(char *out, const struct ask *ask) {
    size_t n = sizeof EVENT_ROLE - 1;
    memcpy(out, EVENT_ROLE, n);
    for (unsigned k = 0; k < ask->chunks; k++)
        n += event_token(out + n, k, k + 1 == ask->chunks);
    n += event_usage(out + n, ask);
    memcpy(out + n, EVENT_DONE, sizeof EVENT_DONE - 1);
    return n + sizeof EVENT_DONE - 1;
}

#endif
