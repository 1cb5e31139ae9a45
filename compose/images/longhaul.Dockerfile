# The whole product is one static binary; the image holds nothing else.
FROM scratch
COPY longhaul /longhaul
ENTRYPOINT ["/longhaul"]
