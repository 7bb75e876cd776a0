package catalog

// CarriesCallerCredential reports whether a request header, by its canonical name,
// can carry the caller's own credential. A gateway removes these before it
// applies an [Injection]: what proves the caller to us must never reach a
// provider.
func CarriesCallerCredential(canonical string) bool {
	switch canonical {
	case "Authorization", "Proxy-Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key",
		"X-Auth-Token", "X-Auth-Key", "X-Access-Token", "X-Amz-Security-Token",
		"Cookie", "Cookie2":
		return true
	}
	return false
}
