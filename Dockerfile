# The router, and with `router sim engine` also the simulated engines of docker-compose.yml.

FROM python:3.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Locked and hashed wheels only, as in the Makefile. The build tools stay in this stage.
COPY requirements.lock requirements-build.lock ./
RUN pip install --require-hashes --no-deps --only-binary :all: --requirement requirements-build.lock \
 && python -m venv --without-pip /opt/router \
 && pip --python /opt/router/bin/python install --require-hashes --no-deps --only-binary :all: --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY docs/router.1 docs/router.1
COPY router router
COPY cli cli
COPY sim sim
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && pip --python /opt/router/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim-bookworm
RUN groupadd --gid 10001 router \
 && useradd --uid 10001 --gid router --no-create-home --home-dir /var/lib/router router \
 && install --directory --owner router --group router /var/lib/router
COPY --from=build /opt/router /opt/router
ENV PATH=/opt/router/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# By number: Kubernetes can only see of a number that it is not root.
USER 10001:10001
WORKDIR /var/lib/router
EXPOSE 8080 9090
# Alive, not ready: a router whose backends are all away must not be restarted for it.
HEALTHCHECK --interval=5s --timeout=2s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9090/healthz', timeout=1)"]
ENTRYPOINT ["router"]
CMD ["serve", "--config", "/etc/router/regions.toml"]
