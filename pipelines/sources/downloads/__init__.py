"""Download files from http(s), object stores and platform pages: cached, resumable, rate limited, and logged."""
