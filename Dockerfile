# The server as an image. All stages start from one Python, so that what is made in one runs in
# the others. The kernels are compiled for any CPU of the architecture, and looked for by that name.
FROM python:3.11-slim-bookworm AS base
ENV NUMBA_CPU_NAME=generic \
    FAULTLANE_CACHE_DIR=/opt/faultlane/kernels \
    PATH=/opt/faultlane/venv/bin:$PATH


FROM base AS wheels
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY server server
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[server]'


FROM base AS build
COPY --from=wheels /wheels /wheels
RUN python -m venv /opt/faultlane/venv \
    && pip install --no-cache-dir --no-deps /wheels/*.whl
RUN python -c 'from faultlane_server.engine import warm_up; warm_up()'


FROM base
COPY --from=build /opt/faultlane /opt/faultlane
# A user without a name, who owns the data and nothing else. The server works on a copy of the
# kernels in /tmp, which must stay writable if the rest is mounted read-only.
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/faultlane
USER 65532:65532
WORKDIR /var/lib/faultlane
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["faultlane-server", "health"]
ENTRYPOINT ["faultlane-server"]
# --insecure: plain text, without tokens. Publish the port only where all may read along, or give
# other arguments: --tls-cert, --tls-key and --tokens.
CMD ["serve", "--host", "0.0.0.0", "--port", "50051", "--insecure", "--data-dir", "/var/lib/faultlane"]
