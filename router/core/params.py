"""Every tunable of the core: one frozen value, units last in the names, the reason or source beside each."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.traits import IDLE_LIMIT_S


@dataclass(frozen=True, slots=True)
class Params:
    # -- time -------------------------------------------------------------------------------------------------------
    #: how often backends where something happens are brought up to date: their ages, timers and quotes
    tick_s: float = 0.1
    #: how often everything is, fits and tolls, too; bounds how late a change that time drives can be
    solve_s: float = 0.5

    # -- round trips ------------------------------------------------------------------------------------------------
    #: weight of a new probe in the mean (GORGO: 0.3)
    rtt_weight: float = 0.3
    #: weight of a new probe's distance from the mean in their mean deviation, and how many are known before that counts
    rtt_deviation_weight: float = 0.1
    rtt_deviations: int = 3
    #: a probe is far from the mean by this many mean deviations (RFC 6298: 4), and this part of it; two are a new one
    rtt_far: float = 4.0
    rtt_far_ratio: float = 0.25
    #: the floor is the minimum over the last one to two of these (BBR's windowed minimum)
    rtt_floor_window_s: float = 30.0
    #: assumed where nothing is known: no probe, no place on the map, nobody else to compare with
    rtt_unknown_s: float = 0.05
    #: a router and a backend in the same region
    rtt_same_region_s: float = 0.001
    #: round trip per km: light in fibre (2 / 200 000 km/s) times 1.4, which is what measured city pairs show
    rtt_s_per_km: float = 1.4e-5
    #: added to the distance for the access networks
    rtt_access_s: float = 0.004
    #: the upstream pool keeps idle connections this long; later a request pays handshakes
    warm_s: float = IDLE_LIMIT_S

    # -- what the scrape says ---------------------------------------------------------------------------------------
    #: older samples are unknown: at least three scrape periods (Gateway API extension issue 2408)
    load_fresh_s: float = 5.0
    #: peers publish every 100 ms; their counts hold in full this long ...
    peers_full_s: float = 0.5
    #: ... and have faded to nothing at this age
    peers_gone_s: float = 3.0
    #: pressure = this * kv / (1 - kv). SMG's least_load has 0.15; here interference is learned besides, and a barrier
    #: that is felt at half full sends requests across an ocean for nothing
    kv_pressure_s: float = 0.03
    #: the barrier is evaluated no nearer to 1 than this
    kv_ratio_max: float = 0.98

    # -- learning the time to the first token -----------------------------------------------------------------------
    #: prior: seconds an engine needs before it computes anything (scheduling, tokenising, one decode step)
    overhead_prior_s: float = 0.03
    #: prior: prompt tokens computed per second (GORGO measured 0.094 ms per token)
    prefill_prior_tokens_per_s: float = 10_000.0
    #: prior: what each request already in the batch adds
    interference_prior_s: float = 0.0005
    #: prior: attention over a million pairs of tokens (4 * hidden * layers operations a pair: 8B on an H100 1.3 ms, on
    #: an A100 4 ms)
    attention_prior_s: float = 0.002
    #: bounds of what can be learned
    prefill_min_tokens_per_s: float = 20.0
    prefill_max_tokens_per_s: float = 1_000_000.0
    overhead_max_s: float = 5.0
    interference_max_s: float = 0.25
    attention_max_s: float = 0.25
    #: what is assumed of a model before anything is known weighs as much as this many samples of all its backends ...
    prior_samples: float = 4.0
    #: ... that were spread over this many tokens and this many requests in the batch
    prior_spread_tokens: float = 1000.0
    prior_spread_requests: float = 8.0
    prior_spread_mpairs: float = 20.0
    #: a backend is as fast as the others until its first tokens or answers say otherwise: this many weigh as much as
    #: what the others say. Their times scatter about as much as they are long, so 24 leave an error of a fifth
    pace_samples: float = 24.0
    #: bounds of how many times slower or faster it can be
    pace_max_factor: float = 20.0
    #: samples are forgotten with this time constant, and the fit slides back to the prior
    fit_memory_s: float = 120.0
    #: more samples than this add nothing: an upper bound keeps the fit moving on busy backends
    fit_samples_max: float = 300.0
    #: a sample counts as no more than this many predictions plus the slack: one stall does not bend the line
    outlier_factor: float = 4.0
    outlier_slack_s: float = 2.0
    #: a sample above the line weighs this much: what an engine can do is the lower edge of what it did, since waits for
    #: memory or a place only ever add (asymmetric least squares, Newey and Powell 1987)
    late_sample_weight: float = 0.5
    #: weight of one sample in the residual: the quick correction on top of the slow fit
    residual_weight: float = 0.15
    #: the residual is forgotten with this time constant (Linkerd's decay)
    residual_memory_s: float = 10.0
    #: the residual never takes more than this share of the fit away
    residual_floor_ratio: float = 0.5
    #: weight of one sample in the prediction error shown to operators
    error_weight: float = 0.1

    #: the speed of a backlog: time constant of what is known of it, and the share of it that each first token
    #: leaves; it starts as ``speed_prior_s`` of work at full speed
    speed_memory_s: float = 10.0
    speed_keep_ratio: float = 0.8
    speed_prior_s: float = 1.0
    #: the mean of the model's backends weighs as much as this many first tokens
    speed_samples: float = 1.0
    speed_min_ratio: float = 0.1
    speed_max_factor: float = 2.0

    # -- the risk of failing ----------------------------------------------------------------------------------------
    #: what a failed attempt costs its request (Linkerd's PenaltyPeakEwma: 5 s), times the chance of it
    failure_cost_s: float = 5.0
    #: weight of one attempt in that chance
    failure_weight: float = 0.2
    #: the chance is forgotten with this time constant
    failure_memory_s: float = 10.0

    #: attempts that failed in a row, or a chance of failing, from which on other backends come first ...
    failing_in_row: int = 2
    failing_chance: float = 0.4
    #: ... for this long, twice as long after each further failure, up to this
    failing_hold_s: float = 0.5
    failing_hold_max_s: float = 10.0

    # -- service ----------------------------------------------------------------------------------------------------
    #: whole answers of one backend teach it at most this often: those in between say the same
    lesson_gap_s: float = 0.005
    #: weight of one answer in the mean decode time
    service_weight: float = 0.1
    #: prior of the decode time of one answer, and the shortest that is believed
    service_prior_s: float = 5.0
    service_min_s: float = 0.05
    #: prior of the time between two tokens: alone, and what each other request in the batch adds
    itl_prior_s: float = 0.015
    itl_busy_prior_s: float = 0.0002
    #: the prior of these weighs as much as this many answers, spread over this many requests in the batch
    itl_prior_samples: float = 8.0
    itl_prior_spread_requests: float = 10.0
    #: bounds of what can be learned
    itl_max_s: float = 2.0
    itl_busy_max_s: float = 0.05
    #: weight of one answer in the mean answer's length, and the prior of that
    answer_weight: float = 0.02
    answer_prior_tokens: float = 200.0
    #: this many scrapes in a row must show requests waiting before the number served is taken for the engine's places
    slots_scrapes: int = 3
    #: from this KV use on, requests wait for memory
    kv_full_ratio: float = 0.95
    #: requests in a row that are served in less than this share of the predicted wait for a place refute the places
    slots_refuted_ratio: float = 0.5
    slots_refuted_times: int = 3
    #: what is known of the places is trusted this long after the last such scrape
    slots_memory_s: float = 30.0
    #: time constant of rates: requests and tokens sent there, tokens delivered
    rate_memory_s: float = 10.0

    # -- the toll: what a request costs those after it, see cost.py --------------------------------------------------
    #: 1 charges what an M/G/1 queue makes later requests wait
    toll_ratio: float = 1.0
    #: share of the toll's queue that is the mean of the model's backends: later requests may go where the queue is
    #: short, or are bound by their prefixes to where it is long. 0 moves more in vain, 0.7 no longer keeps the balance
    toll_shared_ratio: float = 0.5
    #: the utilisation that the toll is computed with is at most this
    toll_utilisation_max: float = 0.9
    #: what a second of waiting for later tokens costs, measured in seconds of waiting for the first
    decode_ratio: float = 0.1

    # -- choosing (policy ttft) -------------------------------------------------------------------------------------
    #: stay with affinity or the local region unless the gain is more than the larger of these
    hysteresis_s: float = 0.010
    hysteresis_ratio: float = 0.10
    #: the same for a request that names its own affinity: its conversation is probably cached where it was before
    affinity_s: float = 0.050
    affinity_ratio: float = 0.25
    #: costs closer than this are equal, and chance decides
    tie_s: float = 0.001
    #: share of requests that refresh what is known of a backend we would not have chosen (llm-d: 0.01)
    explore_ratio: float = 0.01
    #: exploring may cost at most this much more than the best, so that it never shows in the tail
    explore_extra_s: float = 0.15
    #: a backend heard of within this time needs no exploring
    explore_after_s: float = 5.0

    # -- prefix affinity --------------------------------------------------------------------------------------------
    #: blocks remembered per backend while its KV capacity is unknown
    prefix_blocks_default: int = 8192
    prefix_blocks_min: int = 256
    prefix_blocks_max: int = 262_144
    #: blocks are forgotten in generations of this share of what the backend can hold ...
    prefix_generation_ratio: float = 0.25
    #: ... once this many times as much is known
    prefix_kept_factor: float = 1.25
    #: prompts whose new blocks wait to be told to the other routers
    prefix_news_max: int = 1024
    #: weight of one reported cached-token count in the trust we put into our own matches
    prefix_trust_weight: float = 0.1
    prefix_trust_min: float = 0.05
    #: policy prefix: in flight at most this many times the mean (bounded-load hashing: 1.25)
    bounded_load: float = 1.25

    # -- health -----------------------------------------------------------------------------------------------------
    #: connections refused or timed out in a row before a backend is down
    unreachable_limit: int = 2
    #: other faults in a row (Envoy: 5); soft ones count half
    consecutive_limit: float = 5.0
    #: the same, while every fault comes from one tenant and others are served well: it may be the tenant's requests
    one_tenant_factor: float = 4.0
    #: failure ratio over the window, with at least this many attempts in it (Envoy: 85 % of 50 requests)
    failure_ratio: float = 0.5
    failure_volume: int = 20
    failure_window_s: float = 10.0
    #: probes: this many bad ones of the last ``probe_window``, this many good ones in a row
    probe_fall: int = 3
    probe_window: int = 5
    probe_rise: int = 2
    #: a backend whose tokens came this recently is not ejected because of probes
    delivering_s: float = 10.0
    #: ejection time = base * times ejected, capped (Envoy: 30 s, 300 s)
    ejection_base_s: float = 10.0
    ejection_max_s: float = 300.0
    #: a backend that was down returns as soon as probes are good, but not before this times (ejections - 1)
    down_hold_s: float = 1.0
    down_hold_max_s: float = 10.0
    #: after this long without an ejection, one earlier ejection is forgotten
    ejection_memory_s: float = 60.0
    #: trial requests at a time, and how many must succeed
    trial_places: int = 3
    trials_needed: int = 3
    #: probation without any trial ends after this time, if nothing speaks against it
    probation_s: float = 30.0
    #: one that was away this long without being ejected begins slowly, too
    away_ramp_s: float = 3.0
    #: share of decisions a returning backend takes part in, rising to all over this time (Envoy's slow start)
    slow_start_s: float = 30.0
    slow_start_min_ratio: float = 0.10
    #: never more than this share of a model's backends is ejected by judgement (one always may be)
    ejected_max_ratio: float = 0.34
    #: below this share of usable backends, judgement is ignored (Envoy: panic threshold 50 %)
    panic_ratio: float = 0.5
    #: gray slowness: this many median absolute deviations above the median of its model's backends ...
    gray_mads: float = 6.0
    #: ... at least this much above it ...
    gray_floor_s: float = 1.0
    #: ... and this many times slower than it usually is itself: a smaller GPU is slow, not sick
    gray_factor: float = 3.0
    #: ... or this many times slower than the median: no smaller GPU is that slow
    gray_siblings_factor: float = 25.0
    #: first tokens that waited for others count as slowness up to this many times of what quick ones are sent
    gray_share_factor: float = 1.5
    #: weight of one whole answer in their mean time
    whole_weight: float = 0.1
    #: weight of one look in what is usual
    gray_usual_weight: float = 0.02
    #: first tokens overdue at the same time before lateness alone is proof
    gray_overdue: int = 3
    #: looked at this often; ejected when found twice in a row
    gray_interval_s: float = 2.0
    #: needs this many backends and this many first tokens from each
    gray_backends: int = 3
    gray_samples: float = 5.0

    # -- capacity ---------------------------------------------------------------------------------------------------
    #: a 429 or 503 lowers the in-flight limit to this share of what was in flight (AIMD)
    limit_backoff_ratio: float = 0.8
    #: a backend's own Retry-After is obeyed up to this
    retry_after_max_s: float = 30.0
    #: a model is strained no more when first tokens have been predicted within this part of its target for so long; for
    #: twice as long, and so on up to a limit, when it was strained again soon after
    degrade_back_ratio: float = 0.7
    degrade_hold_s: float = 10.0
    degrade_hold_max_s: float = 160.0
    #: a strained model answers itself while a first token is predicted within this part of its target: it has room
    degrade_room_ratio: float = 0.25
    #: how much each prompt counts in the usual length of prompts
    degrade_usual_weight: float = 0.05
    #: a conversation stays with its model where a backend knows this part of the prompt
    degrade_known_ratio: float = 0.5
    #: requests that one begins with that has just woken; it gets one more with each first token
    wake_places: int = 8
    #: a request that finds everything full waits at most this long
    wait_max_s: float = 30.0
    #: requests that wait for a place, in this router
    queue_max: int = 1024
    #: a waiting request is served like an interactive one after this long: nobody starves (SMG: 5, 30, 120 s)
    promote_standard_s: float = 5.0
    promote_batch_s: float = 30.0

    #: policy ttft: a request that would wait longer than this for the work of others at every backend waits in this
    #: router instead, where it can still be bound to the one that is free first. Engines keep enough work not to
    #: run dry meanwhile. The longer a request has waited the longer a queue it accepts, see ``Fleet._hold``
    late_queue_s: float = 2.5
    #: the same for batch priority, which only uses what the others leave
    slack_queue_s: float = 0.25
    #: time constant of how quickly the queue is served, and the longest wait that is predicted from it
    queue_memory_s: float = 10.0

    #: a backend that denies a model it was believed to have gets no more requests for it, if others have it, for this
    #: long; doubled with each denial, up to the maximum
    denial_s: float = 1.0
    denial_max_s: float = 60.0
    #: a backend that has never listed its models may have any, for this long
    models_unknown_s: float = 60.0

    # -- backends that go away at a known time -----------------------------------------------------------------------
    #: their requests are handed over within this long, or within this share of the notice if that is shorter …
    hand_over_s: float = 30.0
    hand_over_ratio: float = 0.5
    #: … and are gone this long before the end, or this share of the notice
    hand_over_spare_s: float = 5.0
    hand_over_spare_ratio: float = 0.1

    # -- how many tokens a request takes, see tokens.py ---------------------------------------------------------------
    #: English prose in common tokenizers runs at about four bytes a token
    bytes_per_token_prior: float = 4.0
    #: tokens that an answer is taken to cost while nothing is known and the client sets no maximum
    output_tokens_prior: int = 256
    #: a shorter prompt tells how many tokens the chat template adds, and nothing about its text; so does one that has
    #: more tokens than bytes
    text_bytes_min: int = 128
    #: no more than this is believed of a template: there may have been a picture, and a guess must not refuse for good
    template_tokens_max: float = 256.0
    #: no text in any language has fewer or more bytes a token; what claims to has something else in it
    bytes_per_token_min: float = 1.0
    bytes_per_token_max: float = 16.0
    #: the first answers to a key all teach how many bytes its tokens have; after this many, every eighth does
    answers_all: int = 64
    #: weight of one prompt or answer ...
    tokens_weight: float = 0.1
    #: ... and how far one prompt can move what is known of its key, and of the whole model: a few odd ones hardly
    #: matter, and what half of the prompts are like is found
    key_step: float = 0.1
    model_step: float = 0.02

    # -- retry ------------------------------------------------------------------------------------------------------
    #: attempts of one request, the first included
    attempts_max: int = 3
    #: how often one answer may break off and be continued elsewhere
    breaks_max: int = 3
    #: a leg that adds as many events to an answer has gone beyond the place where the one before it broke off
    pardon_events: int = 16
    #: a request of which this many backends died is not sent to another one
    deaths_max: int = 2
    #: retries per request, and retries per second that are always allowed (Finagle: 20 %, 10/s, 10 s)
    retry_ratio: float = 0.2
    #: the same where no other backend is doing better: an outage is not multiplied
    retry_hopeless_ratio: float = 0.1
    retry_hopeless_floor_per_s: float = 0.2
    #: a backend whose chance of failing is below this does better
    retry_hope_chance: float = 0.5
    retry_floor_per_s: float = 10.0
    retry_window_s: float = 10.0

    # -- hedges, see hedging ----------------------------------------------------------------------------------------
    #: a first token is late when it takes this many times what was predicted, before anything is known ...
    hedge_start_factor: float = 3.0
    #: ... and between these once it is; known means as many first tokens of a backend
    hedge_least_factor: float = 1.3
    hedge_most_factor: float = 20.0
    hedge_samples: int = 20
    #: added to what was predicted and to what it took: a short prediction is wrong by many times its length
    hedge_slack_s: float = 0.05
    #: how far one first token moves what is known, as a logarithm
    hedge_step: float = 0.1
    #: weight of one first token in the share of late ones; above a half a backend is held to be late, this long
    hedge_late_weight: float = 0.3
    hedge_memory_s: float = 10.0
    #: no hedge where queue and toll are above this
    hedge_toll_s: float = 0.2
    #: the budget saves as many hedges for a bad moment
    hedge_saved_max: float = 10.0

    # -- how many backends a model needs, see needed and forecast ----------------------------------------------------
    #: a trend is a line through this long, and believed when it is as many of its standard errors steep
    trend_s: float = 180.0
    trend_sure: float = 2.0
    #: first tokens that are compared with the prediction: at least, and the latest; how far one look moves the stretch,
    #: and how much it may be: an overload says little about what more backends would do
    stretch_samples: int = 40
    stretch_samples_max: int = 400
    stretch_weight: float = 0.1
    stretch_max: float = 2.0
    #: no KV cache is to be fuller: engines preempt beyond
    needed_kv_ratio: float = 0.9
    #: requests that wait are to be served within this long
    needed_backlog_s: float = 30.0
    #: fewer backends must keep this share of the target, before they are held to be enough
    needed_spare_ratio: float = 0.8
    #: a backend gets too little when it gets less than this share of what its siblings get
    starved_ratio: float = 0.25
    #: a backend whose prefill takes this share of the time is saturated
    saturated_ratio: float = 0.9

    # -- policy cheapest --------------------------------------------------------------------------------------------
    #: a cheaper backend is taken while its predicted first token comes within this
    cheapest_ttft_s: float = 2.0
