# GPU image: `docker run --gpus all pixel-quorum jobs.evaluate experiment=quickstart`, or as the image of
# a Ray cluster, where `ray job submit -- python -m jobs.evaluate ...` finds it at /opt/pixel-quorum.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

RUN apt-get update \
 && apt-get install -y --no-install-recommends make python3 python3-venv python3-dev libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 quorum \
 && install -d -o quorum /opt/pixel-quorum /data

USER quorum
WORKDIR /opt/pixel-quorum
COPY --chown=quorum pyproject.toml constraints.txt Makefile README.md LICENSE ./
COPY --chown=quorum pipeline pipeline
COPY --chown=quorum jobs jobs
COPY --chown=quorum conf conf
RUN make setup && rm -rf ~/.cache

# Ray's dashboard and job server run code for whoever reaches them: ask for a token
ENV PATH=/opt/pixel-quorum/.venv/bin:$PATH \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0

ENTRYPOINT ["/opt/pixel-quorum/jobs/entrypoint.sh"]
CMD ["jobs.evaluate", "--help"]
