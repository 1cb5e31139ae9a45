# The whole product is one static binary; the image holds nothing else but the authorities that a store's HTTPS endpoint is checked against.
FROM scratch
COPY longhaul /longhaul
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENTRYPOINT ["/longhaul"]
