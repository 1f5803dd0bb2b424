"""llama.cpp's own HTTP server, as the wheel ``xllamacpp`` brings it, on one model file.

    python -m cli.demo.llama_server MODEL.gguf PORT NAME

Answers on loopback until SIGTERM. Two requests run at once, on one thread each.
"""

from __future__ import annotations

import signal
import sys

SLOTS = 2
#: Shared by the slots.
CONTEXT_TOKENS = 8192


def main(model: str, port: int, name: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS
    params.n_gpu_layers = 0
    params.warmup = False
    params.use_jinja = True
    params.endpoint_metrics = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)
    # The server's threads do the work. The default action of SIGTERM ends them all, at once.
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
