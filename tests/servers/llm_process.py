"""The process of tests.servers.llm: serves one model until it is ended.

python llm_process.py MODEL_FILE ALIAS PORT API_KEY
"""

import sys
import threading

import xllamacpp


def main() -> None:
    file, alias, port, key = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.model_alias = {alias}
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.api_keys = [key]
    params.n_ctx = 8192
    params.n_parallel = 2
    # Threads of llama.cpp wait for each other without sleeping: two on two busy cores are 20 times as slow as one.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.sampling.seed = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
