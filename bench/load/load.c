/* A load generator that costs next to nothing and checks every byte.
 *
 *     load --port P [--mode closed|open|hold] [--connections N] [--rate R] [--warm-s S] [--seconds S] [--chunks N]
 *          [--interval-us U] [--prompt-bytes B] [--stream] [--model NAME] [--header 'name: value'] [--timeout-s S]
 *          [--reuse N] [--leave N] [--dial] [--stale-s S]
 *
 * closed   N connections, each sends its next request when the last answer is complete
 * open     requests arrive at rate R (exponential gaps), whatever the answers do; latency counts from the due time
 * hold     opens N streams, prints "open", and keeps them until standard input ends
 *
 * --reuse   a connection is closed after its Nth answer, about: clients that come and go
 * --leave   one stream in about N is left after its first token
 * --dial    open: all N connections are there from the start, not only when they are needed
 * --stale-s open: a connection that had been idle for S (60) and is closed under a request, before a byte of its answer,
 *           was closed for being idle: the request is sent again on another one, as clients do, and counted in "stale"
 *
 * Prints "start" and "stop" around the window it measures (hold: --seconds 0 means no window), then one line of JSON:
 * counts inside the window and histograms as [[nanoseconds, count], ...].
 * An answer is right if its bytes are those of answer.h. A gateway that writes the answer anew (other key order, other
 * spaces) is counted in "rewritten", and then its text, finish reason and [DONE] must be right.
 */
#define _GNU_SOURCE
#include "../backend/answer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_PER_WAIT 256
#define READ_BYTES (256 * 1024)
#define HEAD_BYTES_MAX 16384
#define BODY_BYTES_MAX (8u << 20)
#define CONNECTIONS_MAX 60000
#define FAMILIES 64     /* prompts share their first part with the others of their family */
#define OPENING_MAX 64  /* hold: streams being opened at a time */
#define PENDING_MAX (1u << 16)
#define SUB 64          /* histogram: steps per octave, 1.6 % wide */
#define BUCKETS (64 * SUB)
#define SECOND 1000000000ull

enum mode { CLOSED, OPEN, HOLD };
enum phase { OFF, CONNECTING, IDLE, HEAD, BODY };
enum framing { LENGTH, SIZE_LINE, DATA, DATA_END, TRAILER };
enum fault { CONNECT, STATUS, CUT, CONTENT, TIMEOUT, UNSENT, FAULTS };
static const char *FAULT_NAMES[FAULTS] = {"connect", "status", "cut", "content", "timeout", "unsent"};

struct conn {
    int fd;
    enum phase phase;
    enum framing framing;
    int close, status, strict, last_newline, counted_open, leaves;
    uint64_t due_ns, event_at_ns; /* when the request was due; when its last event came */
    uint64_t idle_at_ns, idle_ns; /* since when it has nothing to do; how long it had before this request */
    uint64_t left;                /* bytes of this chunk or of the whole body */
    unsigned line_digits, line_empty;
    size_t at; /* bytes of the expected body seen */
    unsigned events;
    char *head;
    size_t head_bytes;
    char *body; /* kept only when the gateway rewrites */
    size_t body_bytes, body_room;
    char *rest; /* of a request that the socket did not take whole */
    size_t rest_at, rest_bytes;
};

struct histogram {
    uint64_t count[BUCKETS];
};

static struct {
    int port, stream;
    enum mode mode;
    unsigned connections, prompt_bytes, reuse, leave, dial;
    double rate, warm_s, seconds, timeout_s, stale_s;
    const char *model;
    char headers[4096];
    struct ask ask;
} opt = {.connections = 1, .prompt_bytes = 200, .rate = 100, .warm_s = 0.5, .seconds = 2, .timeout_s = 60, .stale_s = 60,
         .model = "bench", .ask = {.chunks = 16}};

static struct {
    uint64_t requests, events, streams, stream_events, reads, bytes, rewritten, connects, left, stale, faults[FAULTS];
    struct histogram latency, first, gap;
    char sample[256];
} tally;

static int epoll_fd, timer_fd, measuring, finished;
static struct conn *conns;
static unsigned opened, opening, used;
static struct conn **idle;
static unsigned idle_count;
static uint64_t pending[PENDING_MAX];
static unsigned pending_head, pending_tail;
static char *requests[FAMILIES];
static size_t request_bytes, counter_at;
static uint64_t sequence;
static char *expected, *expected_text;
static size_t expected_bytes, expected_text_bytes;
static char read_buffer[READ_BYTES], timer_tag, input_tag;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *must(void *memory) {
    if (memory == NULL)
        die("memory");
    return memory;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* -- histogram: exact below SUB nanoseconds, then SUB steps per octave -- */

static void record(struct histogram *h, uint64_t ns) {
    if (!measuring)
        return;
    unsigned octave = ns < SUB ? 0 : 63u - (unsigned)__builtin_clzll(ns) - 6u;
    unsigned at = octave == 0 ? (unsigned)ns : octave * SUB + (unsigned)(ns >> octave);
    h->count[at < BUCKETS ? at : BUCKETS - 1]++;
}

static void print_histogram(const char *name, const struct histogram *h) {
    printf(",\"%s\":[", name);
    const char *comma = "";
    for (unsigned at = 0; at < BUCKETS; at++) {
        if (h->count[at] == 0)
            continue;
        unsigned octave = at < 2 * SUB ? 0 : at / SUB - 1;
        uint64_t low = octave == 0 ? at : (uint64_t)(at - octave * SUB) << octave;
        printf("%s[%llu,%llu]", comma, (unsigned long long)(low + ((1ull << octave) >> 1)),
               (unsigned long long)h->count[at]);
        comma = ",";
    }
    printf("]");
}

/* -- requests -- */

static uint32_t random_state = 20260101;

static uint32_t random_next(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

/* Whether this is one of about `n`; never, if `n` is 0. */
static int one_in(unsigned n) {
    return n > 0 && random_next() % n == 0;
}

static size_t words(char *out, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        out[i] = random_next() % 6 == 0 ? ' ' : (char)('a' + random_next() % 26);
    return bytes;
}

/* One request per family; only the counter in the user's message differs from one sending to the next. */
static void make_requests(void) {
    char marker[128];
    int marker_bytes = snprintf(marker, sizeof marker, "[[chunks=%u interval_us=%u prompt_tokens=%u]] ", opt.ask.chunks,
                                opt.ask.interval_us, opt.ask.prompt_tokens);
    size_t text_bytes = opt.prompt_bytes > (unsigned)marker_bytes + 16 ? opt.prompt_bytes - (unsigned)marker_bytes - 16 : 0;
    size_t shared = text_bytes * 3 / 4, own = text_bytes - shared;
    for (int f = 0; f < FAMILIES; f++) {
        char *body = must(malloc(opt.prompt_bytes + 1024)), *request = must(malloc(opt.prompt_bytes + 8192));
        int n = sprintf(body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"%s", opt.model, marker);
        n += (int)words(body + n, shared);
        n += sprintf(body + n, "\"},{\"role\":\"user\",\"content\":\"");
        size_t counter = (size_t)n;
        n += sprintf(body + n, "%016x", 0);
        n += (int)words(body + n, own);
        n += sprintf(body + n, "\"}],\"max_tokens\":%u,\"temperature\":0%s}", opt.ask.chunks,
                     opt.stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" : "");
        int h = sprintf(request,
                        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: */*\r\n"
                        "user-agent: bench\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n",
                        opt.port, opt.headers, n);
        memcpy(request + h, body, (size_t)n);
        request_bytes = (size_t)(h + n);
        counter_at = (size_t)h + counter;
        requests[f] = request;
        free(body);
    }
}

static const char *next_request(void) {
    char *request = requests[random_next() % FAMILIES];
    uint64_t value = ++sequence;
    for (int i = 15; i >= 0; i--, value >>= 4)
        request[counter_at + (size_t)i] = "0123456789abcdef"[value & 15];
    return request;
}

/* -- connections -- */

static void watch(struct conn *c, int op, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, op, c->fd, &e) < 0)
        die("epoll_ctl");
}

static void clear(struct conn *c) {
    free(c->head);
    free(c->body);
    free(c->rest);
    c->head = c->body = c->rest = NULL;
    c->head_bytes = c->body_bytes = c->body_room = c->rest_bytes = 0;
}

static void shut(struct conn *c) {
    if (c->phase == OFF)
        return;
    clear(c);
    close(c->fd);
    if (opt.mode == HOLD && !c->counted_open && c->phase != IDLE)
        opening--;
    c->phase = OFF;
}

static void fault(enum fault what, const char *text, size_t bytes) {
    if (measuring || opt.mode == HOLD)
        tally.faults[what]++;
    if (tally.sample[0] == 0)
        snprintf(tally.sample, sizeof tally.sample, "%s: %.*s", FAULT_NAMES[what], (int)(bytes < 200 ? bytes : 200), text);
}

static void send_request(struct conn *c, uint64_t due_ns);
static void next_for(struct conn *c);

static void dial(struct conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    tally.connects++;
    c->phase = CONNECTING;
    c->counted_open = 0;
    if (opt.mode == HOLD)
        opening++;
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) < 0 && errno != EINPROGRESS) {
        fault(CONNECT, strerror(errno), 64);
        shut(c);
        return;
    }
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void failed(struct conn *c, enum fault what, const char *text, size_t bytes) {
    fault(what, text, bytes);
    shut(c);
    if (!finished && opt.mode != HOLD)
        dial(c);
}

static void send_request(struct conn *c, uint64_t due_ns) {
    const char *request = next_request();
    c->due_ns = due_ns;
    c->phase = HEAD;
    c->strict = 1;
    c->at = 0;
    c->events = 0;
    c->last_newline = 0;
    c->event_at_ns = 0;
    c->leaves = one_in(opt.leave);
    c->idle_ns = now_ns() - c->idle_at_ns;
    ssize_t n = send(c->fd, request, request_bytes, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        failed(c, CUT, "while sending", 13);
        return;
    }
    if (n < 0)
        n = 0;
    if ((size_t)n < request_bytes) {
        c->rest_bytes = request_bytes - (size_t)n;
        c->rest_at = 0;
        c->rest = must(malloc(c->rest_bytes));
        memcpy(c->rest, request + n, c->rest_bytes);
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
}

/* What a connection does when it has nothing to do. */
static void next_for(struct conn *c) {
    c->phase = IDLE;
    c->idle_at_ns = now_ns();
    if (finished)
        return;
    if (opt.mode != OPEN) {
        send_request(c, now_ns());
    } else if (pending_head != pending_tail) {
        send_request(c, pending[pending_head++ % PENDING_MAX]);
    } else {
        idle[idle_count++] = c;
    }
}

/* -- answers -- */

/* The value of the JSON string that starts at the first quote after `at`, copied to `out`. Returns what follows it. */
static const char *string_value(const char *at, const char *end, char *out, size_t *out_bytes, size_t room) {
    while (at < end && (*at == ' ' || *at == ':'))
        at++;
    if (at >= end || *at != '"')
        return at;
    for (at++; at < end && *at != '"' && *out_bytes < room; at++)
        out[(*out_bytes)++] = *at;
    return at;
}

/* Text of a rewritten answer is right; `whole`: and it is complete. */
static int text_is_right(const struct conn *c, int whole) {
    const char *at = c->body, *end = c->body + c->body_bytes;
    char *text = must(malloc(expected_text_bytes + 1));
    size_t text_bytes = 0;
    while (at < end && (at = memmem(at, (size_t)(end - at), "\"content\"", 9)) != NULL)
        at = string_value(at + 9, end, text, &text_bytes, expected_text_bytes + 1);
    int right = text_bytes <= expected_text_bytes && memcmp(text, expected_text, text_bytes) == 0;
    free(text);
    if (!whole)
        return right;
    if (opt.stream)
        right = right && memmem(c->body, c->body_bytes, "data: [DONE]", 12) != NULL;
    int reason = memmem(c->body, c->body_bytes, "\"stop\"", 6) != NULL;
    return right && reason && text_bytes == expected_text_bytes;
}

static int whole_is_right(const struct conn *c) {
    return c->strict ? c->at == expected_bytes : text_is_right(c, 1);
}

static int part_is_right(const struct conn *c) {
    return c->strict || text_is_right(c, 0);
}

static void complete(struct conn *c) {
    uint64_t now = now_ns();
    if (!whole_is_right(c)) {
        failed(c, CONTENT, c->body ? c->body : "short", c->body ? c->body_bytes : 5);
        return;
    }
    record(&tally.latency, now - c->due_ns);
    if (measuring) {
        tally.requests++;
        tally.rewritten += !c->strict;
        tally.streams += opt.stream != 0;
        tally.stream_events += c->events;
    }
    clear(c);
    if (c->close || one_in(opt.reuse)) {
        shut(c);
        if (!finished && opt.mode != HOLD)
            dial(c);
        return;
    }
    next_for(c);
}

static void keep(struct conn *c, const char *data, size_t bytes) {
    if (c->body_bytes + bytes > BODY_BYTES_MAX)
        bytes = BODY_BYTES_MAX - c->body_bytes;
    if (c->body_bytes + bytes > c->body_room) {
        c->body_room = (c->body_bytes + bytes) * 2;
        c->body = must(realloc(c->body, c->body_room));
    }
    memcpy(c->body + c->body_bytes, data, bytes);
    c->body_bytes += bytes;
}

static void count_events(struct conn *c, const char *data, size_t bytes) {
    unsigned events = 0;
    const char *end = data + bytes, *at = data;
    while (at < end) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        if (line == NULL)
            break;
        if (line > data ? line[-1] == '\n' : c->last_newline)
            events++;
        at = line + 1;
    }
    c->last_newline = end[-1] == '\n';
    if (events == 0)
        return;
    uint64_t now = now_ns();
    if (c->events == 0)
        record(&tally.first, now - c->due_ns);
    else
        record(&tally.gap, now - c->event_at_ns);
    for (unsigned i = 1; i < events; i++)
        record(&tally.gap, 0);
    c->events += events;
    c->event_at_ns = now;
    if (measuring)
        tally.events += events;
    if (opt.mode == HOLD && !c->counted_open) {
        c->counted_open = 1;
        opening--;
        opened++;
    }
}

static void take_body(struct conn *c, const char *data, size_t bytes) {
    if (bytes == 0)
        return;
    if (c->strict) {
        if (c->at + bytes <= expected_bytes && memcmp(expected + c->at, data, bytes) == 0) {
            c->at += bytes;
        } else {
            c->strict = 0;
            keep(c, expected, c->at);
            keep(c, data, bytes);
        }
    } else {
        keep(c, data, bytes);
    }
    if (opt.stream)
        count_events(c, data, bytes);
}

/* Takes the framing off. Returns the bytes it took, or -1 when the framing is broken; *over when the body is complete. */
static ssize_t take_framed(struct conn *c, const char *data, size_t bytes, int *over) {
    size_t at = 0;
    while (at < bytes && !*over) {
        size_t n = c->left < bytes - at ? (size_t)c->left : bytes - at;
        char byte = data[at];
        switch (c->framing) {
        case LENGTH:
        case DATA:
            take_body(c, data + at, n);
            at += n;
            c->left -= n;
            if (c->left == 0) {
                *over = c->framing == LENGTH;
                c->framing = c->framing == DATA ? DATA_END : c->framing;
            }
            break;
        case SIZE_LINE:
            at++;
            if (byte == '\n') {
                if (c->line_digits == 0)
                    return -1;
                c->framing = c->left > 0 ? DATA : TRAILER;
                c->line_empty = 1;
            } else if (byte != '\r') {
                int digit = byte >= '0' && byte <= '9' ? byte - '0' : ((byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1);
                if (digit < 0 || ++c->line_digits > 8)
                    return -1;
                c->left = c->left * 16 + (uint64_t)digit;
            }
            break;
        case DATA_END:
            at++;
            if (byte == '\n') {
                c->framing = SIZE_LINE;
                c->left = c->line_digits = 0;
            } else if (byte != '\r') {
                return -1;
            }
            break;
        case TRAILER:
            at++;
            if (byte == '\n' && c->line_empty)
                *over = 1;
            else if (byte != '\r')
                c->line_empty = byte == '\n';
            break;
        }
    }
    return (ssize_t)at;
}

/* Reads the head that ends at `end`. Returns 0 if the answer is of no use. */
static int read_head(struct conn *c, char *head, char *end) {
    *end = 0;
    if (strncmp(head, "HTTP/1.1 ", 9) != 0)
        return 0;
    c->status = atoi(head + 9);
    c->close = 0;
    c->framing = LENGTH;
    c->left = UINT64_MAX;
    for (char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
        char *name = line + 2;
        if (strncasecmp(name, "content-length:", 15) == 0)
            c->left = strtoull(name + 15, NULL, 10);
        else if (strncasecmp(name, "transfer-encoding:", 18) == 0 && strncasecmp(name + 18 + (name[18] == ' '), "chunked", 7) == 0)
            c->framing = SIZE_LINE;
        else if (strncasecmp(name, "connection: close", 17) == 0)
            c->close = 1;
    }
    if (c->framing == SIZE_LINE) {
        c->left = c->line_digits = 0;
        return 1;
    }
    return c->left != UINT64_MAX;
}

static void on_data(struct conn *c, char *data, size_t bytes) {
    int over = 0;
    if (c->phase == HEAD) {
        char *all = data, *end;
        if (c->head != NULL) {
            c->head = must(realloc(c->head, c->head_bytes + bytes + 1));
            memcpy(c->head + c->head_bytes, data, bytes);
            c->head_bytes += bytes;
            all = c->head;
            bytes = c->head_bytes;
        }
        end = memmem(all, bytes, "\r\n\r\n", 4);
        if (end == NULL) {
            if (bytes > HEAD_BYTES_MAX) {
                failed(c, CONTENT, "head too long", 13);
            } else if (c->head == NULL) {
                c->head = must(malloc(bytes + 1));
                memcpy(c->head, data, bytes);
                c->head_bytes = bytes;
            }
            return;
        }
        if (!read_head(c, all, end)) {
            failed(c, CONTENT, all, bytes);
            return;
        }
        if (c->status != 200) {
            char text[200];
            int n = snprintf(text, sizeof text, "%d %.*s", c->status, (int)(bytes - (size_t)(end + 4 - all)), end + 4);
            failed(c, STATUS, text, (size_t)(n < 200 ? n : 199));
            return;
        }
        c->phase = BODY;
        char *was_head = c->head;
        c->head = NULL;
        size_t head_bytes = (size_t)(end + 4 - all);
        ssize_t taken = take_framed(c, all + head_bytes, bytes - head_bytes, &over);
        int rest = (size_t)taken != bytes - head_bytes;
        free(was_head);
        if (taken < 0 || rest) {
            failed(c, CONTENT, "framing", 7);
            return;
        }
    } else {
        ssize_t taken = take_framed(c, data, bytes, &over);
        if (taken < 0 || (size_t)taken != bytes) {
            failed(c, CONTENT, "framing", 7);
            return;
        }
    }
    if (over) {
        complete(c);
    } else if (c->leaves && c->phase == BODY && c->events > 1) {
        tally.left += measuring != 0;
        shut(c);
        dial(c);
    }
}

/* The idle connection was closed while the request was on its way. */
static void again(struct conn *c) {
    tally.stale += measuring != 0;
    pending[--pending_head % PENDING_MAX] = c->due_ns;
    shut(c);
    if (!finished)
        dial(c);
}

static void on_readable(struct conn *c) {
    ssize_t n = recv(c->fd, read_buffer, READ_BYTES, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (c->phase == HEAD && c->head == NULL && opt.mode == OPEN && c->idle_ns >= (uint64_t)(opt.stale_s * 1e9)) {
            again(c);
        } else if (c->phase != IDLE) {
            failed(c, CUT, n < 0 ? strerror(errno) : "end of stream", 20);
        } else {
            for (unsigned i = 0; i < idle_count; i++)
                if (idle[i] == c)
                    idle[i] = idle[--idle_count];
            shut(c);
        }
        return;
    }
    if (c->phase == IDLE) {
        failed(c, CONTENT, "bytes after the answer", 22);
        return;
    }
    if (measuring) {
        tally.reads++;
        tally.bytes += (uint64_t)n;
    }
    on_data(c, read_buffer, (size_t)n);
}

static void on_writable(struct conn *c) {
    if (c->phase == CONNECTING) {
        int error = 0;
        socklen_t room = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &room);
        if (error != 0) {
            fault(CONNECT, strerror(error), 64);
            shut(c);
            return;
        }
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        next_for(c);
        return;
    }
    ssize_t n = send(c->fd, c->rest + c->rest_at, c->rest_bytes, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN)
            failed(c, CUT, "while sending", 13);
        return;
    }
    c->rest_at += (size_t)n;
    c->rest_bytes -= (size_t)n;
    if (c->rest_bytes == 0) {
        free(c->rest);
        c->rest = NULL;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    }
}

/* -- the run -- */

static struct conn *unused(void) {
    while (used < opt.connections) {
        struct conn *c = &conns[used++];
        if (c->phase == OFF)
            return c;
    }
    return NULL;
}

/* One arrival of the open loop. */
static void arrive(uint64_t due_ns) {
    if (idle_count > 0) {
        send_request(idle[--idle_count], due_ns);
        return;
    }
    if (pending_tail - pending_head == PENDING_MAX) {
        fault(UNSENT, "queue full", 10);
        return;
    }
    pending[pending_tail++ % PENDING_MAX] = due_ns;
    struct conn *c = unused();
    if (c != NULL)
        dial(c);
}

static void dispatch(int timeout_ms) {
    struct epoll_event events[EVENTS_PER_WAIT];
    int n = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, timeout_ms);
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if ((void *)c == &timer_tag) {
            uint64_t ticks;
            if (read(timer_fd, &ticks, sizeof ticks) < 0)
                continue;
        } else if ((void *)c == &input_tag) {
            char ignored[64];
            if (read(0, ignored, sizeof ignored) <= 0)
                finished = 1;
        } else {
            if (c->phase != OFF && (events[i].events & EPOLLOUT))
                on_writable(c);
            if (c->phase != OFF && c->phase != CONNECTING && (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
                on_readable(c);
            else if (c->phase == CONNECTING && (events[i].events & (EPOLLERR | EPOLLHUP)))
                on_writable(c);
        }
    }
}

static void expire(void) {
    static uint64_t last;
    uint64_t now = now_ns();
    if (now - last < SECOND / 2)
        return;
    last = now;
    for (unsigned i = 0; i < opt.connections; i++) {
        struct conn *c = &conns[i];
        if (c->phase == OFF && (opt.mode == CLOSED || (opt.mode == OPEN && i < used)))
            dial(c); /* a refused connection is tried again twice a second */
        if ((c->phase == HEAD || c->phase == BODY) && now - (c->event_at_ns ? c->event_at_ns : c->due_ns) > (uint64_t)(opt.timeout_s * 1e9))
            failed(c, TIMEOUT, "no answer", 9);
    }
}

static void set_timer(uint64_t at_ns) {
    struct itimerspec t = {.it_value = {.tv_sec = (time_t)(at_ns / SECOND), .tv_nsec = (long)(at_ns % SECOND)}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static uint64_t exponential_ns(void) {
    double u = ((double)random_next() + 1.0) / 16777217.0;
    return (uint64_t)(-log(u) / opt.rate * 1e9);
}

/* Runs for a time. */
static void run(double seconds) {
    static uint64_t arrival_ns;
    uint64_t now = now_ns(), until = now + (uint64_t)(seconds * 1e9);
    if (arrival_ns == 0)
        arrival_ns = now;
    while ((now = now_ns()) < until && !finished) {
        if (opt.mode == OPEN) {
            while (arrival_ns <= now) {
                arrive(arrival_ns);
                arrival_ns += exponential_ns();
            }
            set_timer(arrival_ns < until ? arrival_ns : until);
        } else {
            set_timer(until);
        }
        dispatch(500);
        expire();
    }
}

static void say(const char *line) {
    puts(line);
    fflush(stdout);
}

static double measure(void) {
    char keep_sample[sizeof tally.sample];
    uint64_t faults[FAULTS];
    memcpy(keep_sample, tally.sample, sizeof keep_sample);
    memcpy(faults, tally.faults, sizeof faults);
    memset(&tally, 0, sizeof tally);
    memcpy(tally.sample, keep_sample, sizeof keep_sample);
    memcpy(tally.faults, faults, sizeof faults);
    say("start");
    uint64_t begin = now_ns();
    measuring = 1;
    run(opt.seconds);
    measuring = 0;
    double window_s = (double)(now_ns() - begin) / 1e9;
    say("stop");
    return window_s;
}

static double hold(void) {
    uint64_t until = now_ns() + (uint64_t)(opt.timeout_s * 1e9);
    double window_s = 0;
    unsigned tried = 0;
    while (now_ns() < until && !finished && (tried < opt.connections || opening > 0)) {
        while (tried < opt.connections && opening < OPENING_MAX)
            dial(&conns[tried++]);
        dispatch(100);
        expire();
    }
    printf("open %u\n", opened);
    fflush(stdout);
    run(opt.warm_s);
    if (opt.seconds > 0)
        window_s = measure();
    until = now_ns() + 600 * SECOND;
    while (!finished && now_ns() < until)
        dispatch(500);
    for (unsigned i = 0; i < opt.connections; i++)
        if (conns[i].phase == BODY) {
            tally.rewritten += !conns[i].strict;
            if (!part_is_right(&conns[i]))
                fault(CONTENT, conns[i].body, conns[i].body_bytes);
        }
    return window_s;
}

static void report(double window_s) {
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    printf("{\"window_s\":%.6f,\"requests\":%llu,\"events\":%llu,\"streams\":%llu,\"stream_events\":%llu,\"reads\":%llu,"
           "\"bytes\":%llu,\"rewritten\":%llu,\"connects\":%llu,\"left\":%llu,\"stale\":%llu,\"open\":%u,\"pending\":%u,"
           "\"errors\":{",
           window_s, (unsigned long long)tally.requests, (unsigned long long)tally.events,
           (unsigned long long)tally.streams, (unsigned long long)tally.stream_events, (unsigned long long)tally.reads,
           (unsigned long long)tally.bytes, (unsigned long long)tally.rewritten, (unsigned long long)tally.connects,
           (unsigned long long)tally.left, (unsigned long long)tally.stale, opened, pending_tail - pending_head);
    for (int i = 0; i < FAULTS; i++)
        printf("%s\"%s\":%llu", i ? "," : "", FAULT_NAMES[i], (unsigned long long)tally.faults[i]);
    printf("},\"sample\":\"");
    for (const char *p = tally.sample; *p; p++)
        if (*p == '"' || *p == '\\')
            printf("\\%c", *p);
        else
            putchar(*p >= 32 && *p < 127 ? *p : ' ');
    printf("\"");
    print_histogram("latency_ns", &tally.latency);
    print_histogram("first_ns", &tally.first);
    print_histogram("gap_ns", &tally.gap);
    printf("}\n");
}

static void parse(int argc, char **argv) {
    enum { PORT = 256, MODE, CONNECTIONS, RATE, WARM, SECONDS, CHUNKS, INTERVAL, PROMPT, STREAM, MODEL, HEADER, LIMIT,
           REUSE, LEAVE, DIAL, STALE };
    static const struct option names[] = {
        {"port", 1, 0, PORT},         {"mode", 1, 0, MODE},           {"connections", 1, 0, CONNECTIONS},
        {"rate", 1, 0, RATE},         {"warm-s", 1, 0, WARM},         {"seconds", 1, 0, SECONDS},
        {"chunks", 1, 0, CHUNKS},     {"interval-us", 1, 0, INTERVAL}, {"prompt-bytes", 1, 0, PROMPT},
        {"stream", 0, 0, STREAM},     {"model", 1, 0, MODEL},         {"header", 1, 0, HEADER},
        {"timeout-s", 1, 0, LIMIT},   {"reuse", 1, 0, REUSE},       {"leave", 1, 0, LEAVE},
        {"dial", 0, 0, DIAL},         {"stale-s", 1, 0, STALE},
        {0, 0, 0, 0}};
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        size_t at = strlen(opt.headers);
        switch (name) {
        case PORT: opt.port = atoi(optarg); break;
        case MODE: opt.mode = *optarg == 'c' ? CLOSED : *optarg == 'o' ? OPEN : HOLD; break;
        case CONNECTIONS: opt.connections = (unsigned)atoi(optarg); break;
        case RATE: opt.rate = atof(optarg); break;
        case WARM: opt.warm_s = atof(optarg); break;
        case SECONDS: opt.seconds = atof(optarg); break;
        case CHUNKS: opt.ask.chunks = (unsigned)atoi(optarg); break;
        case INTERVAL: opt.ask.interval_us = (unsigned)atoi(optarg); break;
        case PROMPT: opt.prompt_bytes = (unsigned)atoi(optarg); break;
        case STREAM: opt.stream = 1; break;
        case MODEL: opt.model = optarg; break;
        case HEADER: snprintf(opt.headers + at, sizeof opt.headers - at, "%s\r\n", optarg); break;
        case LIMIT: opt.timeout_s = atof(optarg); break;
        case REUSE: opt.reuse = (unsigned)atoi(optarg); break;
        case LEAVE: opt.leave = (unsigned)atoi(optarg); break;
        case DIAL: opt.dial = 1; break;
        case STALE: opt.stale_s = atof(optarg); break;
        default: exit(2);
        }
    }
    if (opt.port == 0 || opt.connections < 1 || opt.connections > CONNECTIONS_MAX || opt.ask.chunks < 1 ||
        opt.ask.chunks > CHUNKS_MAX || opt.rate <= 0 || opt.prompt_bytes > (4u << 20)) {
        fprintf(stderr, "load: --port is needed; connections 1..%d, chunks 1..%u\n", CONNECTIONS_MAX, CHUNKS_MAX);
        exit(2);
    }
    opt.stream = opt.stream || opt.mode == HOLD;
    opt.ask.prompt_tokens = opt.prompt_bytes / 4;
}

int main(int argc, char **argv) {
    parse(argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    make_requests();
    expected = must(malloc((size_t)(opt.ask.chunks + EVENTS_BESIDE_TOKENS) * EVENT_MAX));
    expected_bytes = opt.stream ? answer_stream(expected, &opt.ask) : answer_whole(expected, &opt.ask);
    expected_text = must(malloc((size_t)opt.ask.chunks * TOKEN_BYTES));
    expected_text_bytes = answer_text(expected_text, opt.ask.chunks);
    conns = must(calloc(opt.connections, sizeof *conns));
    idle = must(calloc(opt.connections + 1, sizeof *idle));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event timer = {.events = EPOLLIN, .data.ptr = &timer_tag};
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = &input_tag};
    if (epoll_fd < 0 || timer_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &timer) < 0)
        die("epoll");
    double window_s;
    if (opt.mode == HOLD) {
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &input) < 0)
            die("hold needs a pipe as standard input");
        window_s = hold();
    } else {
        if (opt.mode == CLOSED || opt.dial) {
            used = opt.connections;
            for (unsigned i = 0; i < opt.connections; i++)
                dial(&conns[i]);
        }
        run(opt.warm_s);
        window_s = measure();
        finished = 1;
    }
    report(window_s);
    return 0;
}
