# GPU image: `docker run --gpus all pixel-quorum jobs.evaluate experiment=quickstart`, or as the image of
# a Ray cluster's nodes, where `python -m jobs.submit submit=ray` runs jobs (docs/clusters.md).
# Any Debian or Ubuntu with Python 3.11 or newer will do: torch brings its own CUDA.
ARG BASE=nvidia/cuda:13.0.1-base-ubuntu24.04
FROM ${BASE}

# wget: with it KubeRay asks whether a pod is well
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
    python3 python3-venv python3-dev ca-certificates wget libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 quorum \
 && install -d -o quorum /opt/pixel-quorum /data

USER quorum
WORKDIR /opt/pixel-quorum
COPY --chown=quorum pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=quorum pipeline pipeline
COPY --chown=quorum jobs jobs
COPY --chown=quorum conf conf
RUN python3 -m venv .venv \
 && .venv/bin/pip install --no-cache-dir -c constraints.txt -e '.[cluster,demo]'

# Ray's dashboard and job server run code for whoever reaches them: ask for a token
ENV PATH=/opt/pixel-quorum/.venv/bin:$PATH \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0

# A Ray node is well while its cluster answers, any other container while its process lives
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=3 \
 CMD test ! -e /tmp/ray/ray_current_cluster \
  || ray health-check --address "$(cat /tmp/ray/ray_current_cluster)"

ENTRYPOINT ["/opt/pixel-quorum/jobs/entrypoint.sh"]
CMD ["jobs.evaluate", "--help"]
