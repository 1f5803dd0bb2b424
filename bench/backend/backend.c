/* An OpenAI-like engine that costs next to nothing: the gateway under test must be the dearest part of every hop.
 *
 *     backend COUNT      listens on COUNT free ports of 127.0.0.1, prints "ports P1 P2 ...", serves until killed
 *
 * One thread, one epoll. Streams at full speed advance in turns, one token each, as an engine's decode step does, and
 * every token leaves in a write of its own. Streams with an interval get a phase of their own, so that their tokens
 * reach the gateway alone. What to answer stands in the prompt (answer.h).
 */
#define _GNU_SOURCE
#include "answer.h"

#include <arpa/inet.h>
#include <errno.h>
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

#define SITES_MAX 256
#define EVENTS_PER_WAIT 256
#define READ_BYTES (256 * 1024)
#define REQUEST_BYTES_MAX (32u << 20)
#define NOWHERE ((size_t)-1)

struct site {
    int fd;
    unsigned port;
    uint64_t requests, tokens, prompt_tokens, aborted, running;
};

struct conn {
    int fd;
    int busy;  /* an answer is under way */
    int close; /* after this answer */
    int wants_out;
    int dead;
    struct site *site;
    char *in; /* bytes of a request that is not complete yet */
    size_t in_bytes, in_room;
    char *out; /* bytes the socket did not take */
    size_t out_at, out_bytes;
    struct ask ask;
    unsigned next; /* token */
    uint64_t due_ns, phase_ns;
    size_t ready_at, heap_at; /* places in `ready` and `heap`, or NOWHERE */
    struct conn *next_dead;
};

static int epoll_fd, timer_fd;
static struct site sites[SITES_MAX];
static unsigned site_count;
static struct conn **ready, **heap;
static size_t ready_count, ready_room, heap_count, heap_room;
static struct conn *dead_list;
static uint64_t stream_seq;
static char timer_tag, read_buffer[READ_BYTES];

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
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* -- the two queues of streams: `ready` advances at full speed, `heap` is ordered by due time -- */

static void ready_add(struct conn *c) {
    if (ready_count == ready_room) {
        ready_room = ready_room ? ready_room * 2 : 256;
        ready = must(realloc(ready, ready_room * sizeof *ready));
    }
    c->ready_at = ready_count;
    ready[ready_count++] = c;
}

static void ready_remove(struct conn *c) {
    if (c->ready_at == NOWHERE)
        return;
    struct conn *last = ready[--ready_count];
    ready[c->ready_at] = last;
    last->ready_at = c->ready_at;
    c->ready_at = NOWHERE;
}

static void heap_place(struct conn *c, size_t at) {
    while (at > 0 && heap[(at - 1) / 2]->due_ns > c->due_ns) {
        heap[at] = heap[(at - 1) / 2];
        heap[at]->heap_at = at;
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap_count)
            break;
        if (child + 1 < heap_count && heap[child + 1]->due_ns < heap[child]->due_ns)
            child++;
        if (heap[child]->due_ns >= c->due_ns)
            break;
        heap[at] = heap[child];
        heap[at]->heap_at = at;
        at = child;
    }
    heap[at] = c;
    c->heap_at = at;
}

static void heap_add(struct conn *c) {
    if (heap_count == heap_room) {
        heap_room = heap_room ? heap_room * 2 : 256;
        heap = must(realloc(heap, heap_room * sizeof *heap));
    }
    heap_count++;
    heap_place(c, heap_count - 1);
}

static void heap_remove(struct conn *c) {
    if (c->heap_at == NOWHERE)
        return;
    struct conn *last = heap[--heap_count];
    size_t at = c->heap_at;
    c->heap_at = NOWHERE;
    if (last != c)
        heap_place(last, at);
}

/* -- connections -- */

static void watch(struct conn *c, int op) {
    struct epoll_event e = {.events = EPOLLIN | (c->wants_out ? EPOLLOUT : 0u), .data.ptr = c};
    if (epoll_ctl(epoll_fd, op, c->fd, &e) < 0)
        die("epoll_ctl");
}

static void drop(struct conn *c) {
    if (c->dead)
        return;
    c->dead = 1;
    if (c->busy) {
        c->site->running--;
        c->site->aborted++;
    }
    ready_remove(c);
    heap_remove(c);
    close(c->fd);
    c->next_dead = dead_list; /* freed after this turn: its event may still be in the batch */
    dead_list = c;
}

static void bury(void) {
    while (dead_list != NULL) {
        struct conn *c = dead_list;
        dead_list = c->next_dead;
        free(c->in);
        free(c->out);
        free(c);
    }
}

/* Sends, or keeps what the socket does not take. */
static void send_bytes(struct conn *c, const char *data, size_t bytes) {
    ssize_t sent = 0;
    if (c->out_bytes == 0) {
        sent = send(c->fd, data, bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            drop(c);
            return;
        }
        if (sent < 0)
            sent = 0;
        if ((size_t)sent == bytes)
            return;
    }
    size_t rest = bytes - (size_t)sent;
    char *out = must(malloc(c->out_bytes + rest));
    if (c->out_bytes > 0)
        memcpy(out, c->out + c->out_at, c->out_bytes);
    memcpy(out + c->out_bytes, data + sent, rest);
    free(c->out);
    c->out = out;
    c->out_at = 0;
    c->out_bytes += rest;
    if (!c->wants_out) {
        c->wants_out = 1;
        watch(c, EPOLL_CTL_MOD);
    }
}

static void serve(struct conn *c);

static void answer_ended(struct conn *c) {
    c->busy = 0;
    c->site->running--;
    c->site->requests++;
    c->site->tokens += c->ask.chunks;
    c->site->prompt_tokens += c->ask.prompt_tokens;
    if (c->close && c->out_bytes == 0)
        drop(c);
}

static void queue_next(struct conn *c) {
    if (c->dead || c->out_bytes > 0)
        return;
    if (c->ask.interval_us == 0)
        ready_add(c);
    else
        heap_add(c);
}

/* One token of a stream; with the last one everything up to the end. Leaves the stream in no queue when it is over. */
static void advance(struct conn *c) {
    char out[4 * EVENT_MAX], event[2 * EVENT_MAX];
    int last = c->next + 1 >= c->ask.chunks;
    size_t bytes = event_token(event, c->next, last);
    int n = sprintf(out, "%zx\r\n", bytes);
    memcpy(out + n, event, bytes);
    bytes += (size_t)n;
    out[bytes++] = '\r';
    out[bytes++] = '\n';
    if (last) {
        size_t usage = event_usage(event, &c->ask);
        n = sprintf(out + bytes, "%zx\r\n%s\r\n%zx\r\n%s\r\n0\r\n\r\n", usage, event, sizeof EVENT_DONE - 1, EVENT_DONE);
        bytes += (size_t)n;
        ready_remove(c);
        heap_remove(c);
    }
    c->next++;
    send_bytes(c, out, bytes);
    if (c->dead)
        return;
    if (last) {
        answer_ended(c);
        if (!c->dead)
            serve(c);
    } else if (c->out_bytes > 0) {
        ready_remove(c);
        heap_remove(c);
    }
}

static void start_stream(struct conn *c) {
    char out[2 * EVENT_MAX];
    int n = sprintf(out,
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
                    "%s\r\n%zx\r\n%s\r\n",
                    c->close ? "connection: close\r\n" : "", sizeof EVENT_ROLE - 1, EVENT_ROLE);
    c->next = 0;
    /* The first token comes at once; the second after a phase from the golden ratio: no two streams tick together. */
    double phase = (double)(++stream_seq) * 0.6180339887498949;
    phase -= (double)(uint64_t)phase;
    c->phase_ns = (uint64_t)(phase * c->ask.interval_us * 1000.0);
    c->due_ns = now_ns();
    send_bytes(c, out, (size_t)n);
    queue_next(c);
}

static void respond(struct conn *c, const char *status, const char *type, const char *body, size_t bytes) {
    char *out = must(malloc(bytes + EVENT_MAX));
    int n = sprintf(out, "HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%s\r\n", status, type, bytes,
                    c->close ? "connection: close\r\n" : "");
    memcpy(out + n, body, bytes);
    send_bytes(c, out, (size_t)n + bytes);
    free(out);
}

static void respond_whole(struct conn *c) {
    static char *body;
    static size_t body_bytes;
    static struct ask of;
    if (body == NULL || memcmp(&of, &c->ask, sizeof of) != 0) {
        free(body);
        body = must(malloc((size_t)c->ask.chunks * TOKEN_BYTES + EVENT_MAX));
        body_bytes = answer_whole(body, &c->ask);
        of = c->ask;
    }
    respond(c, "200 OK", "application/json", body, body_bytes);
}

static void respond_metrics(struct conn *c) {
    static const char form[] =
        "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"bench\"} %.1f\n"
        "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"bench\"} 0.0\n"
        "# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{model_name=\"bench\"} 0.1\n"
        "# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total{model_name=\"bench\"} %.1f\n"
        "# TYPE vllm:generation_tokens counter\nvllm:generation_tokens_total{model_name=\"bench\"} %.1f\n"
        "# TYPE vllm:cache_config_info gauge\n"
        "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"100000\"} 1.0\n"
        "# TYPE bench_requests counter\nbench_requests_total %.1f\n"
        "# TYPE bench_aborted counter\nbench_aborted_total %.1f\n";
    char body[4 * EVENT_MAX];
    const struct site *s = c->site;
    int n = snprintf(body, sizeof body, form, (double)s->running, (double)s->prompt_tokens, (double)s->tokens,
                     (double)s->requests, (double)s->aborted);
    respond(c, "200 OK", "text/plain; version=0.0.4", body, (size_t)n);
}

/* -- requests -- */

static unsigned number_after(const char *text, const char *end, const char *name, unsigned otherwise, unsigned max) {
    const char *at = memmem(text, (size_t)(end - text), name, strlen(name));
    if (at == NULL)
        return otherwise;
    unsigned long value = 0;
    for (at += strlen(name); at < end && *at >= '0' && *at <= '9' && value <= max; at++)
        value = value * 10 + (unsigned long)(*at - '0');
    return value > max ? max : (unsigned)value;
}

static int field_is_true(const char *body, size_t bytes, const char *name) {
    const char *end = body + bytes, *at = memmem(body, bytes, name, strlen(name));
    if (at == NULL)
        return 0;
    for (at += strlen(name); at < end && (*at == ' ' || *at == ':'); at++)
        ;
    return end - at >= 4 && memcmp(at, "true", 4) == 0;
}

static void answer_chat(struct conn *c, const char *body, size_t bytes) {
    const char *mark = memmem(body, bytes, "[[chunks=", 9);
    const char *end = mark == NULL ? NULL : memmem(mark, (size_t)(body + bytes - mark), "]]", 2);
    memset(&c->ask, 0, sizeof c->ask);
    c->ask.chunks = 16;
    if (end != NULL) {
        c->ask.chunks = number_after(mark, end, "chunks=", 16, CHUNKS_MAX);
        c->ask.interval_us = number_after(mark, end, "interval_us=", 0, 3600u * 1000000u);
        c->ask.prompt_tokens = number_after(mark, end, "prompt_tokens=", 0, 10000000u);
    }
    if (c->ask.chunks == 0)
        c->ask.chunks = 1;
    c->ask.stream = field_is_true(body, bytes, "\"stream\"");
    c->busy = 1;
    c->site->running++;
    if (c->ask.stream) {
        start_stream(c);
    } else {
        respond_whole(c);
        if (!c->dead)
            answer_ended(c);
    }
}

static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1700000000,"
    "\"owned_by\":\"bench\",\"root\":\"bench\",\"max_model_len\":131072}]}";

static void answer(struct conn *c, const char *head, const char *body, size_t bytes) {
    const char *path = strchr(head, ' ') + 1;
    if (strncmp(path, "/v1/chat/completions", 20) == 0)
        answer_chat(c, body, bytes);
    else if (strncmp(path, "/v1/models", 10) == 0)
        respond(c, "200 OK", "application/json", MODELS, sizeof MODELS - 1);
    else if (strncmp(path, "/metrics", 8) == 0)
        respond_metrics(c);
    else if (strncmp(path, "/health", 7) == 0)
        respond(c, "200 OK", "application/json", "{}", 2);
    else
        respond(c, "404 Not Found", "application/json", "{\"error\":{\"message\":\"no such path\"}}", 36);
    if (c->close && !c->busy && !c->dead && c->out_bytes == 0)
        drop(c);
}

/* The value of a header, or NULL; `head` ends with an empty line and a NUL. */
static const char *header(const char *head, const char *name) {
    size_t name_bytes = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, name_bytes) == 0 && line[2 + name_bytes] == ':') {
            const char *value = line + 3 + name_bytes;
            while (*value == ' ')
                value++;
            return value;
        }
    }
    return NULL;
}

/* Decodes a chunked body in place. Returns the bytes it took on the wire, 0 while it is not complete, -1 if broken. */
static ssize_t dechunk(char *at, size_t bytes, size_t *body_bytes) {
    size_t read = 0, written = 0;
    for (;;) {
        char *line = memmem(at + read, bytes - read, "\r\n", 2);
        if (line == NULL)
            return 0;
        char *stop;
        unsigned long size = strtoul(at + read, &stop, 16);
        if (stop == at + read || size > REQUEST_BYTES_MAX)
            return -1;
        read = (size_t)(line - at) + 2;
        if (bytes - read < size + 2)
            return 0;
        memmove(at + written, at + read, size);
        written += size;
        read += size + 2;
        if (size == 0) {
            *body_bytes = written;
            return (ssize_t)read;
        }
    }
}

/* Answers one complete request at the front of `data`. Returns the bytes it took, 0 if more are needed, -1 if broken. */
static ssize_t take_request(struct conn *c, char *data, size_t bytes) {
    char *end = memmem(data, bytes, "\r\n\r\n", 4);
    if (end == NULL)
        return bytes > 65536 ? -1 : 0;
    size_t head_bytes = (size_t)(end - data) + 4;
    char head[65536 + 8];
    if (head_bytes > 65536)
        return -1;
    memcpy(head, data, head_bytes);
    head[head_bytes] = 0;
    if (strchr(head, ' ') == NULL)
        return -1;
    const char *length = header(head, "content-length"), *coding = header(head, "transfer-encoding");
    const char *connection = header(head, "connection");
    size_t body_bytes = 0, taken = head_bytes;
    if (coding != NULL) {
        /* In place: decode only once all of it is there. */
        if (memmem(data + head_bytes, bytes - head_bytes, "0\r\n\r\n", 5) == NULL)
            return bytes > REQUEST_BYTES_MAX ? -1 : 0;
        ssize_t wire = dechunk(data + head_bytes, bytes - head_bytes, &body_bytes);
        if (wire <= 0)
            return -1;
        taken += (size_t)wire;
    } else if (length != NULL) {
        body_bytes = strtoul(length, NULL, 10);
        if (body_bytes > REQUEST_BYTES_MAX)
            return -1;
        if (bytes - head_bytes < body_bytes)
            return 0;
        taken += body_bytes;
    }
    c->close = connection != NULL && strncasecmp(connection, "close", 5) == 0;
    answer(c, head, data + head_bytes, body_bytes);
    return (ssize_t)taken;
}

static void keep(struct conn *c, const char *data, size_t bytes) {
    if (c->in_bytes + bytes > c->in_room) {
        c->in_room = (c->in_bytes + bytes) * 2;
        c->in = must(realloc(c->in, c->in_room));
    }
    memcpy(c->in + c->in_bytes, data, bytes);
    c->in_bytes += bytes;
}

/* Answers what is complete among the kept bytes. */
static void serve(struct conn *c) {
    size_t at = 0;
    while (!c->dead && !c->busy && at < c->in_bytes) {
        ssize_t taken = take_request(c, c->in + at, c->in_bytes - at);
        if (taken < 0)
            drop(c);
        if (taken <= 0)
            break;
        at += (size_t)taken;
    }
    if (c->dead)
        return;
    memmove(c->in, c->in + at, c->in_bytes - at);
    c->in_bytes -= at;
    if (c->in_bytes == 0 && c->in_room > 65536) {
        free(c->in);
        c->in = NULL;
        c->in_room = 0;
    }
}

static void on_readable(struct conn *c) {
    ssize_t n = recv(c->fd, read_buffer, READ_BYTES, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || c->in_bytes + (size_t)n > 2 * (size_t)REQUEST_BYTES_MAX) {
        drop(c);
        return;
    }
    size_t at = 0;
    if (c->in_bytes == 0 && !c->busy) { /* the usual case: whole requests, no copy */
        while (!c->dead && !c->busy && at < (size_t)n) {
            ssize_t taken = take_request(c, read_buffer + at, (size_t)n - at);
            if (taken < 0)
                drop(c);
            if (taken <= 0)
                break;
            at += (size_t)taken;
        }
        if (c->dead)
            return;
    }
    if (at < (size_t)n) {
        int was_empty = c->in_bytes == 0;
        keep(c, read_buffer + at, (size_t)n - at);
        if (!c->busy && !was_empty)
            serve(c);
    }
}

static void on_writable(struct conn *c) {
    ssize_t sent = send(c->fd, c->out + c->out_at, c->out_bytes, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            drop(c);
        return;
    }
    c->out_at += (size_t)sent;
    c->out_bytes -= (size_t)sent;
    if (c->out_bytes > 0)
        return;
    free(c->out);
    c->out = NULL;
    c->wants_out = 0;
    watch(c, EPOLL_CTL_MOD);
    if (!c->busy) {
        if (c->close)
            drop(c);
        return;
    }
    c->due_ns = now_ns() + c->ask.interval_us * 1000ull;
    queue_next(c);
}

static void on_accept(struct site *s) {
    for (int i = 0; i < 64; i++) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct conn *c = must(calloc(1, sizeof *c));
        c->fd = fd;
        c->site = s;
        c->ready_at = c->heap_at = NOWHERE;
        watch(c, EPOLL_CTL_ADD);
    }
}

/* -- time -- */

static void run_due(void) {
    uint64_t now = now_ns();
    while (heap_count > 0 && heap[0]->due_ns <= now) {
        struct conn *c = heap[0];
        uint64_t step = c->next == 0 ? c->phase_ns : c->ask.interval_us * 1000ull;
        /* Late by a whole step: go on from now, a burst would not be the load that was asked for. */
        c->due_ns = c->due_ns + step > now ? c->due_ns + step : now + step;
        heap_place(c, 0);
        advance(c);
    }
}

static void arm_timer(void) {
    static uint64_t armed_ns;
    uint64_t due = heap_count > 0 ? heap[0]->due_ns : 0;
    if (due == armed_ns && due > now_ns())
        return;
    armed_ns = due;
    struct itimerspec t = {.it_value = {.tv_sec = (time_t)(due / 1000000000u), .tv_nsec = (long)(due % 1000000000u)}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static void listen_on(struct site *s) {
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t room = sizeof a;
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(s->fd, 4096) < 0)
        die("listen");
    getsockname(s->fd, (struct sockaddr *)&a, &room);
    s->port = ntohs(a.sin_port);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &e) < 0)
        die("epoll_ctl");
}

static void on_event(const struct epoll_event *e) {
    if (e->data.ptr == &timer_tag) {
        uint64_t ticks;
        if (read(timer_fd, &ticks, sizeof ticks) < 0)
            return;
    } else if ((char *)e->data.ptr >= (char *)sites && (char *)e->data.ptr < (char *)(sites + SITES_MAX)) {
        on_accept(e->data.ptr);
    } else {
        struct conn *c = e->data.ptr;
        if (!c->dead && (e->events & EPOLLOUT))
            on_writable(c);
        if (!c->dead && (e->events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
            on_readable(c);
    }
}

int main(int argc, char **argv) {
    site_count = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    if (site_count < 1 || site_count > SITES_MAX) {
        fprintf(stderr, "usage: backend COUNT (1..%d)\n", SITES_MAX);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event timer = {.events = EPOLLIN, .data.ptr = &timer_tag};
    if (epoll_fd < 0 || timer_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &timer) < 0)
        die("epoll");
    printf("ports");
    for (unsigned i = 0; i < site_count; i++) {
        listen_on(&sites[i]);
        printf(" %u", sites[i].port);
    }
    printf("\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS_PER_WAIT];
        arm_timer();
        int n = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, ready_count > 0 ? 0 : -1);
        for (int i = 0; i < n; i++)
            on_event(&events[i]);
        run_due();
        for (size_t i = ready_count; i-- > 0;)
            if (i < ready_count)
                advance(ready[i]);
        bury();
    }
}
