.PHONY: test
test: ## format, clippy with warnings as errors, all tests
	@scripts/test
