package auth

import "context"

// AskIssuer fetches an issuer's keys as a running server does, keeps none, and says how many
// can be used and how many are too weak.
func AskIssuer(ctx context.Context, c IssuerConfig) (keys, weak int, err error) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	data, err := fetchKeySet(ctx, newIssuerClient(), c.JWKS)
	if err != nil {
		return 0, 0, err
	}
	all, weak, err := readKeySet(data, c.Algorithm)
	return len(all), weak, err
}
