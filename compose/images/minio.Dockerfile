# MinIO as a static binary, built from its Go module.
FROM scratch
COPY minio /minio
ENTRYPOINT ["/minio"]
