package simulate

// Prices are what an object store asks, in dollars.
type Prices struct {
	Write  float64 // 1,000 writes or lists; a delete is free
	Read   float64 // 1,000 reads
	Egress float64 // a GB that leaves the store
}

// ListPrices are about what many ask whose prices are public. What is kept costs 0.023 for a
// GB and a month besides.
var ListPrices = Prices{Write: 0.005, Read: 0.0004, Egress: 0.09}

// Of returns what requests cost, in dollars, and what leaves the store.
func (p Prices) Of(c Count) (requests, egress float64) {
	requests = p.Write/1000*float64(c.Writes+c.Swaps+c.Lists) + p.Read/1000*float64(c.Reads+c.Ranges)
	return requests, p.Egress / 1e9 * float64(c.Down)
}
