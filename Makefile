.PHONY: run test bench

DURATION ?= 30

run: ## the main job, for DURATION seconds: exchange → DPDK → cache → gRPC, then compare
	@scripts/run $(DURATION)

test: ## format, clippy with warnings as errors, all tests
	@scripts/test

bench: ## measure against others, in one run
	@scripts/bench
