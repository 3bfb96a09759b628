.PHONY: run test bench soak

DURATION ?= 30

run: ## the main job, for DURATION seconds: exchange → DPDK → cache → gRPC, then compare
	@scripts/run $(DURATION)

test: ## format, clippy with warnings as errors, all tests
	@scripts/test

bench: ## measure against others, in one run
	@scripts/bench

soak: ## ten minutes of fuzzing for each target, a thousand seeds
	@scripts/soak
