package instance

import (
	"context"
	"sync"

	"github.com/gatehouse-io/gatehouse/auth"
)

// issuers fetches the keys of each issuer of AUTH_ISSUERS, without which its tokens are refused.
func (d *diagnosis) issuers(ctx context.Context) {
	const check = "issuers"
	all, err := d.config.issuers()
	if err != nil {
		return // a mistake of the configuration, which is told there
	}
	type answer struct {
		keys, weak int
		err        error
	}
	answers := make([]answer, len(all))
	var asked sync.WaitGroup
	for i, c := range all {
		asked.Go(func() { answers[i].keys, answers[i].weak, answers[i].err = auth.AskIssuer(ctx, c) })
	}
	asked.Wait()
	for i, c := range all {
		switch a := answers[i]; {
		case a.err != nil:
			d.add(check, Failed, "see that its jwks in AUTH_ISSUERS is right and can be reached from here; its tokens are refused without its keys", "the keys of %s cannot be had: %v", c.Issuer, a.err)
		case a.keys == 0:
			d.add(check, Failed, "see that its algorithm in AUTH_ISSUERS is the one that it signs with; its tokens are refused", "%s has no key that can be used for %s (%d are too weak)", c.Issuer, c.Algorithm, a.weak)
		case a.weak > 0:
			d.add(check, Doubtful, "let it make stronger keys: RSA from 2048 bits", "%s has %d keys for %s, and %d that are too weak, which are not used", c.Issuer, a.keys, c.Algorithm, a.weak)
		default:
			d.add(check, Fine, "", "%s has %d keys for %s", c.Issuer, a.keys, c.Algorithm)
		}
	}
}
