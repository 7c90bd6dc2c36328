# The server's image: runtime packages with checked hashes, our code, nothing that builds. Migrations run from it too.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock /tmp/requirements.lock
RUN python -m venv /opt/crm && /opt/crm/bin/pip install --require-hashes --no-deps -r /tmp/requirements.lock

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="CRM API" \
      org.opencontainers.image.description="An API-first, headless CRM backend on PostgreSQL 18"
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin crm
COPY --from=packages /opt/crm /opt/crm
WORKDIR /app
COPY alembic.ini ./
COPY migrations ./migrations
COPY src ./src
# Compiled here, because the container's file system may be read-only.
RUN /opt/crm/bin/python -m compileall -q src
ENV PATH=/opt/crm/bin:$PATH \
    PYTHONPATH=/app/src \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CRM_ENVIRONMENT=production \
    CRM_DATA_DIR=/tmp/crm
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["python", "-m", "crm_api"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--workers", "2"]
