# The server's image: built in one stage, run in the other without compilers, as nobody in particular.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# What the files' times are, for a build that can be repeated; 1980 is the first year that a ZIP knows.
ARG SOURCE_DATE_EPOCH=315532800
WORKDIR /source
COPY deploy/image/*.txt ./
RUN python -m venv --without-pip /build && python -m venv --without-pip /opt/tunnel-server && \
    install="install --no-cache-dir --no-compile --require-hashes --only-binary :all:" && \
    pip --python /build/bin/python $install -r build-requirements.txt && \
    pip --python /opt/tunnel-server/bin/python $install -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
# Without what only C compilers read, and with bytecode, as nothing is written when it runs: the same in each build,
# which takes one process and one seed.
RUN pip --python /build/bin/python wheel --no-deps --no-build-isolation --wheel-dir /wheel . && \
    pip --python /opt/tunnel-server/bin/python install --no-cache-dir --no-compile --no-deps --no-index /wheel/* && \
    find /opt/tunnel-server -type f -regex '.*\.\(c\|h\|pyx\|pxd\)' -delete && \
    PYTHONHASHSEED=0 /opt/tunnel-server/bin/python -m compileall -qf --invalidation-mode checked-hash /opt/tunnel-server/lib && \
    find /opt/tunnel-server -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +

FROM ${PYTHON_IMAGE}
# Python's official images hold no bytecode of its library: each start, and each health check, would compile it.
RUN PYTHONHASHSEED=0 python -m compileall -q -x '/(ensurepip|idlelib|lib2to3|pydoc_data|site-packages|tests?|tkinter|turtledemo)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# What has to outlive a container: ./ssh, ./tls and ./acme of the settings. Any user may run it, so any may write there.
RUN mkdir --mode=1777 /data
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tunnel-server" \
      org.opencontainers.image.description="Local services on the web over plain SSH" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# Owned by its user, so that a child image adds plugins with `RUN pip install` and nothing more.
COPY --from=build --chown=10001:10001 /opt/tunnel-server /opt/tunnel-server
ENV PATH=/opt/tunnel-server/bin:$PATH \
    PIP_PYTHON=/opt/tunnel-server/bin/python \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 3000 2222 8443 8888
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["tunnel-server", "healthcheck"]
ENTRYPOINT ["tunnel-server"]
CMD ["run"]
