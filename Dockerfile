# The server's image: built in one stage, run in the other without compilers, as nobody in particular.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /opt/tunnel-server && /opt/tunnel-server/bin/pip install --no-cache-dir --no-compile .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="tunnel-server" \
      org.opencontainers.image.description="Local services on the web over plain SSH" \
      org.opencontainers.image.licenses="Apache-2.0"
# Owned by its user, so that a child image adds plugins with `RUN pip install` and nothing more.
COPY --from=build --chown=10001:10001 /opt/tunnel-server /opt/tunnel-server
# What has to outlive a container: host key, certificates, the ACME account. Any user may run it, so any may write there.
RUN mkdir -p /data && chmod 1777 /data
ENV PATH=/opt/tunnel-server/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    TUNNEL_SERVER_SSH_HOST_KEY_PATH=/data/ssh/ssh_host_key \
    TUNNEL_SERVER_ACME_FOLDER=/data/acme \
    TUNNEL_SERVER_DEV_TLS_FOLDER=/data/dev-tls
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 3000 2222 8443 8888
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["tunnel-server", "healthcheck"]
ENTRYPOINT ["tunnel-server"]
CMD ["run"]
