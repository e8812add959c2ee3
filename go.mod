module github.com/cache-tool/cache-tool

go 1.26
