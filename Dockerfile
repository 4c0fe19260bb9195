# One slim image for capture, worker and web: the same steps as `make up`, no TensorFlow.
FROM node:22-slim AS vendor
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY Makefile ./
COPY web/package.json web/package-lock.json web/.npmrc web/
RUN make web/static/vendor/.done

FROM python:3.11-slim AS app
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 moodline
WORKDIR /app
COPY Makefile pyproject.toml README.md LICENSE moodline.py ./
COPY requirements/ requirements/
COPY bench/ bench/
COPY shared/ shared/
COPY workers/ workers/
COPY web/ web/
COPY training/__init__.py training/
RUN make compiled
COPY --from=vendor /app/web/static/vendor/ web/static/vendor/
COPY models/ models/
RUN install -d -o moodline -g moodline /data /media
ENV PATH=/app/.venv/bin:$PATH MOODLINE_DATA_DIR=/data MEDIA_URL=/media PYTHONUNBUFFERED=1
VOLUME /data /media
USER moodline
ENTRYPOINT ["moodline"]
CMD ["--help"]
