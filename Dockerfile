# After `cargo xtask dist`:
#   docker build -t loopprobe .
#   docker run --rm -it --privileged --pid=host loopprobe ps
# It must see the host's processes (--pid=host); --privileged gives it the capabilities of docs/safety.md and /sys.
FROM debian:12-slim
COPY target/dist/loopprobe_*_amd64.deb /tmp/
RUN dpkg -i /tmp/loopprobe_*_amd64.deb && rm /tmp/loopprobe_*_amd64.deb
ENTRYPOINT ["loopprobe"]
CMD ["--help"]
